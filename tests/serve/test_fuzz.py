"""Made-up requests for every address of the API: answers are as described, and never a 500."""

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=str)
def test_answers_are_as_described(server, mode):
    api = schemathesis.openapi.from_url(server.url + "/openapi.json")
    operations = [found.ok() for found in api.get_all_operations()]
    assert len(operations) == 11
    if mode is schemathesis.GenerationMode.NEGATIVE:  # others take nothing that could be wrong
        operations = [o for o in operations if o.method == "post" and "{name}" not in o.path]
        assert len(operations) == 3
    for operation in operations:

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(
            max_examples=25,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        def answers(case):
            case.call_and_validate(checks=CHECKS, timeout=30)

        answers()
    with server.http as http:
        assert http.get("/readyz").status_code == 200
