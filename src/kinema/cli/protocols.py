"""`kinema protocols`: the test protocols of the literature."""

from dataclasses import asdict

from kinema.cli.console import JsonOption, print_json, results


def protocols(as_json: JsonOption = False) -> None:
    """List the test protocols, and the places in the papers that they come from.

    Which frames make a clip is the network's own rule: segments or dense windows, spread evenly.

    Example: kinema protocols
    """
    from kinema.evaluation.protocols import PROTOCOLS, paper_tests

    if as_json:
        print_json(
            [
                {**asdict(protocol), "papers": [asdict(test) for test in paper_tests(protocol)]}
                for protocol in PROTOCOLS.values()
            ]
        )
        return
    from rich.padding import Padding

    out = results()
    for protocol in PROTOCOLS.values():
        out.print(f"{protocol.name}: {protocol.about}", style="bold")
        for test in paper_tests(protocol):
            line = f"{test.paper}, {test.place} ({', '.join(test.datasets)}). {test.reading}"
            out.print(Padding(line.rstrip(), (0, 0, 0, 4), expand=False))
