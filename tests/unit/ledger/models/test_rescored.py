from flywheel.ledger.judged import add_report, add_rescored, rescored_reports


def test_a_report_under_another_metric_stands_beside_the_original(connection, report):
    add_report(connection, report("r", 4))
    other = report("r2", 4, metric_id="new", metric="error_cm.median")
    for _ in range(2):
        add_rescored(connection, "r", other)
    assert rescored_reports(connection, "new") == {4: other}
    assert rescored_reports(connection, "m") == {}
