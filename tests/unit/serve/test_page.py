import pytest


@pytest.fixture
def reports(project):
    folder = project.state / "reports"
    folder.mkdir(parents=True, exist_ok=True)
    for night in (1, 2):
        (folder / f"night-000{night}.html").write_text(f"<h1>night {night}</h1>")
    return folder


def test_a_report_is_served_as_it_is(reports, server):
    assert server.get("/reports/night-0002.html").text == "<h1>night 2</h1>"


def test_nothing_in_a_report_runs_or_loads(reports, server):
    policy = server.get("/reports/night-0001.html").headers["content-security-policy"]
    allowed = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert allowed["default-src"] == "'none'"
    assert not {"script-src", "connect-src", "frame-src"} & allowed.keys()
    assert allowed["img-src"] == "'self' data:"


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


def test_the_folder_of_the_reports_leads_to_the_overview(reports, server):
    assert server.get("/reports/", follow_redirects=False).headers["location"] == "/pages/"
