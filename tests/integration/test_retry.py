# SPDX-License-Identifier: ISC
"""Retry rules with real daemons: which one holds for a reply, for an address alone, and where there is none."""
RULES = """
ann@far.example  *         F,1h,5m
far.example      rcpt_45x  F,1h,10m
far.example      *         F,1h,20m
"""


def test_rule_of_an_address(bulkhead, sink):
    """A pattern with a local part holds for a refused recipient; a fault of the host is the domain's; no rule: it fails at once."""
    sink.on_rcpt = lambda rcpt: "452 4.2.2 later" if "later" in str(rcpt) or "ann" in str(rcpt) else None
    b = bulkhead(sink=sink, retry=RULES)
    b.send("", ["later@far.example", "ann@far.example", "later@other.example"])
    b.wait_log(r"\*\* later@other\.example .*retry timeout exceeded")
    b.wait_log(r"== later@far\.example .*452 4\.2\.2 later")
    b.wait_log(r"== ann@far\.example .*452 4\.2\.2 later")
    assert b.command("retry-rule", "ann@far.example", "rcpt_452").startswith("Retry rule: ann@far.example  *  F,1h,5m; ")
    assert b.command("retry-rule", "later@far.example", "rcpt_452").startswith("Retry rule: far.example  *  F,1h,10m; ")
    assert b.command("retry-rule", "x.far.example", "far.example", "refused").startswith("Retry rule: far.example  *  F,1h,20m; ")
    assert b.command("retry-rule", "other.example") == "No retry information found\n"
