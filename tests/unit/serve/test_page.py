import re

import pytest


@pytest.fixture
def reports(project):
    folder = project.state / "reports"
    folder.mkdir(parents=True, exist_ok=True)
    for night in (1, 2):
        (folder / f"night-000{night}.html").write_text(f"<h1>night {night}</h1>")
    return folder


def test_the_page_names_the_serving_model_and_links_the_newest_report_first(reports, server):
    page = server.get("/").text
    assert server.get("/health").json()["digest"] in page
    assert "release 1" in page
    assert re.findall(r'href="([^"]+)"', page) == [
        "/reports/night-0002.html",
        "/reports/night-0001.html",
    ]


def test_the_page_of_labeling_stands_before_the_nights(reports, server):
    (reports / "labeling.html").write_text("<h1>labeling</h1>")
    page = server.get("/").text
    assert re.findall(r'href="([^"]+)"', page)[0] == "/reports/labeling.html"
    assert "labeling: annotators, queue and cost" in page


def test_the_flywheel_page_stands_first_of_all(reports, server):
    for name in ("labeling", "flywheel"):
        (reports / f"{name}.html").write_text(f"<h1>{name}</h1>")
    assert re.findall(r'href="([^"]+)"', server.get("/").text)[0] == "/reports/flywheel.html"


def test_a_year_of_nights_shows_the_newest_and_counts_the_others(reports, server):
    for night in range(400):
        (reports / f"night-{night:04d}.html").touch()
    page = server.get("/").text
    assert page.count("/reports/night-") == 60
    assert "and 340 earlier ones" in page


def test_the_page_loads_nothing_from_elsewhere(server):
    assert "//" not in server.get("/").text


def test_a_report_is_served_as_it_is(reports, server):
    assert server.get("/reports/night-0002.html").text == "<h1>night 2</h1>"


def test_a_report_written_after_the_start_is_served_too(server, project):
    assert server.get("/reports/night-0003.html").status_code == 404
    folder = project.state / "reports"
    (folder / "night-0003.html").write_text("late")
    assert server.get("/reports/night-0003.html").text == "late"


@pytest.mark.parametrize(
    "path", ["/reports/../ledger.db", "/reports/%2e%2e/ledger.db", "/reports/..%2fledger.db"]
)
def test_no_path_leads_out_of_the_reports(reports, server, path):
    assert server.get(path).status_code == 404


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_there_is_no_page_that_loads_scripts_from_the_internet(server, path):
    assert server.get(path).status_code == 404
