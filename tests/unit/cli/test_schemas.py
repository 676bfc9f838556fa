"""What --json prints, as a JSON Schema: the file beside the commands is theirs, and they keep it."""

import json
import os
from pathlib import Path

import pytest
from pydantic import ConfigDict, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema
from worlds.years import START, open_year

import flywheel.cli
from flywheel.cli.terminal import Terminal
from flywheel.loop.replay import ChallengePlan, plan_challenge
from flywheel.report import nights_frame, status
from flywheel.report.assess import Assessment, assess
from flywheel.report.labeling.facts import LabelingFacts, read_labeling
from flywheel.report.proposals import Ranked, read_proposals
from flywheel.report.status import Status
from flywheel.report.trace import Event
from flywheel.upkeep.finding import Finding, ok

FILE = Path(flywheel.cli.__file__).with_name("schemas.json")
WHAT = {
    "status": Status,
    "trace": tuple[Event, ...],
    "labels": LabelingFacts,
    "plan": ChallengePlan,
    "assess": Assessment,
    "assess --plan": tuple[Ranked, ...],
    "doctor": tuple[Finding, ...],
}
WORDS, NUMBERS = ("metric", "verdict", "reason"), ("e_value", "seconds")
COUNTS = ("night", "failures", "routed", "labels", "train", "test")
MODELS = [
    f"{name}{end}"
    for name in ("champion", "candidate", "production")
    for end in ("", "_low", "_high")
]


class Generator(GenerateJsonSchema):
    """A number that is not finite is printed as null."""

    def float_schema(self, schema):
        return {"type": ["number", "null"]}


def schema_of(kind):
    """The schema of a type; what its fields mean is taken from the docstrings below them."""
    described = TypeAdapter(list[kind], config=ConfigDict(use_attribute_docstrings=True))
    found = described.json_schema(mode="serialization", schema_generator=Generator)
    return {**found.pop("items"), "$defs": found.get("$defs", {})}


def generated():
    found = {name: schema_of(kind) for name, kind in WHAT.items()}
    servers = {"type": "array", "items": {"type": "string"}}
    found["status"] = {
        "$defs": found["status"].pop("$defs"),
        "type": "object",
        "properties": {"running": servers, "not_running": servers, "status": found["status"]},
        "required": ["running", "not_running", "status"],
    }
    kinds = dict.fromkeys(COUNTS, "integer") | dict.fromkeys(WORDS, "string")
    columns = [*COUNTS, *MODELS, "champion_start", "candidate_start", *WORDS, *NUMBERS]
    row = {name: {"type": [kinds.get(name, "number"), "null"]} for name in columns}
    night = {"type": "object", "properties": row, "required": columns}
    return found | {"nights": {"type": "array", "items": night}}


KINDS = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "boolean": bool,
    "number": (int, float),
    "null": type(None),
}


def faults(value, schema, root, where="$"):
    """Where a value does not keep a schema."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        found = [list(faults(value, one, root, where)) for one in schema["anyOf"]]
        yield from () if any(not one for one in found) else [f"{where} is none of its kinds"]
        return
    wanted = schema.get("type", [])
    names = [wanted] if isinstance(wanted, str) else wanted
    if names and not any(isinstance(value, KINDS[name]) for name in names):
        yield f"{where}: {value!r} is no {wanted}"
    if value not in schema.get("enum", [value]):
        yield f"{where}: {value!r} is none of {schema['enum']}"
    yield from inside(value, schema, root, where)


def inside(value, schema, root, where):
    """The same of the parts of an object or an array."""
    if isinstance(value, dict):
        known = schema.get("properties", {})
        yield from (
            f"{where}.{key} is missing" for key in schema.get("required", ()) if key not in value
        )
        for name, part in value.items():
            below = known.get(name, schema.get("additionalProperties", not known))
            if below is False:
                yield f"{where}.{name} is not in the schema"
            elif below is not True:
                yield from faults(part, below, root, f"{where}.{name}")
    if isinstance(value, list):
        first = schema.get("prefixItems", [])
        for place, part in enumerate(value):
            below = first[place] if place < len(first) else schema.get("items", {})
            yield from faults(part, below, root, f"{where}[{place}]")


def test_the_schemas_are_those_of_the_records():
    if os.environ.get("FLYWHEEL_GOLDEN") == "write":
        FILE.write_text(json.dumps(generated(), indent=1) + "\n", encoding="utf-8")
    stored = json.loads(FILE.read_text(encoding="utf-8"))
    assert stored == generated(), "run FLYWHEEL_GOLDEN=write pytest tests/unit/cli/test_schemas.py"


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """Command -> what it prints after a month."""
    folder = tmp_path_factory.mktemp("year")
    said = []
    terminal = Terminal()
    terminal.say = said.append
    plan = Path(flywheel.__file__).parent / "examples/plan.toml"
    with open_year(folder, 30) as loop:
        facts = read_labeling(loop)
        with loop.ledger.read() as connection:
            nights = nights_frame(connection).reset_index().to_dict("records")
        values = {
            "status": {"running": ["worker"], "not_running": [], "status": status(loop)},
            "nights": nights,
            "labels": facts,
            "trace": [Event(at=START, what="label", detail="red")],
            "plan": plan_challenge(loop, 0.1),
            "assess": assess(loop, facts.whole),
            "assess --plan": read_proposals(plan),
            "doctor": [ok("disk", "there is room")],
        }
        for value in values.values():
            terminal.say_json(value)
    return dict(zip(values, map(json.loads, said), strict=True))


@pytest.mark.parametrize("name", [*WHAT, "nights"])
def test_what_a_command_prints_keeps_its_schema(printed, name):
    schema = json.loads(FILE.read_text(encoding="utf-8"))[name]
    assert list(faults(printed[name], schema, schema)) == []


def test_a_field_that_is_missing_or_of_another_type_is_noticed(printed):
    schema = json.loads(FILE.read_text(encoding="utf-8"))["assess"]
    broken = {**printed["assess"], "held": "many"}
    del broken["price"]
    assert list(faults(broken, schema, schema)) == [
        "$.price is missing",
        "$.held: 'many' is no integer",
    ]


def test_most_fields_say_what_they_mean():
    """Their descriptions are the docstrings of the records."""
    found = [
        field
        for schema in json.loads(FILE.read_text(encoding="utf-8")).values()
        for record in schema.get("$defs", {}).values()
        for field in record.get("properties", {}).values()
    ]
    assert sum("description" in field for field in found) > len(found) / 2
