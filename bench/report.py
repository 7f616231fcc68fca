#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""Tables from $WORKDIR/results.jsonl: median (min-max), and ratios."""
import collections
import json
import os
import statistics

WORKDIR = os.environ.get("WORKDIR") or "/var/tmp/bulkhead-bench"


def fmt(values):
    values = [v for v in values if v is not None]
    if not values:
        return "-"
    m = statistics.median(values)

    def f(x):
        return "%.0f" % x if abs(x) >= 100 else "%.1f" % x if abs(x) >= 10 else "%.2f" % x
    if len(values) == 1:
        return f(m)
    return "%s (%s-%s)" % (f(m), f(min(values)), f(max(values)))


def table(rows, keys, columns, title):
    groups = collections.OrderedDict()
    for r in rows:
        groups.setdefault(tuple(r.get(k) for k in keys), []).append(r)
    if not groups:
        return
    print("\n### %s\n" % title)
    print("| " + " | ".join([*keys, *columns, "runs"]) + " |")
    print("|" + "---|" * (len(keys) + len(columns) + 1))
    for g in sorted(groups, key=lambda g: [(x is None, str(type(x)), x) for x in g]):
        rs = groups[g]
        print("| " + " | ".join([str(x) for x in g] + [fmt([r.get(c) for r in rs]) for c in columns] + [str(len(rs))]) + " |")


def ratios(rows, keys, column, title):
    """Median of ours over median of theirs, row by row."""
    groups = collections.OrderedDict()
    for r in rows:
        if r.get(column):
            groups.setdefault(tuple(r.get(k) for k in keys), {}).setdefault(r["peer"], []).append(r[column])
    peers = sorted({p for g in groups.values() for p in g} - {"bulkhead", "direct"})
    lines = []
    for g, by in sorted(groups.items(), key=str):
        if "bulkhead" in by:
            ours = statistics.median(by["bulkhead"])
            lines.append("| " + " | ".join([str(x) for x in g] + [fmt(by["bulkhead"])] +
                                           ["%.1f" % (ours / statistics.median(by[p])) if p in by else "-" for p in peers]) + " |")
    if lines:
        print("\n### %s\n\n| %s |" % (title, " | ".join([*keys, "bulkhead", *["/ " + p for p in peers]])))
        print("|" + "---|" * (len(keys) + 1 + len(peers)))
        print("\n".join(lines))


def main():
    rows = []
    try:
        with open(os.path.join(WORKDIR, "results.jsonl")) as f:
            rows = [json.loads(line) for line in f]
    except FileNotFoundError:
        pass

    def pick(case):
        return [r for r in rows if r["case"] == case]
    table(pick("relay"), ("size", "keep", "sessions", "peer", "count"), ("accept", "e2e", "cpu_ms"), "relay, messages/s")
    ratios(pick("relay"), ("size", "keep", "sessions"), "e2e", "relay: Bulkhead's end-to-end rate over each peer's")
    ratios(pick("relay"), ("size", "keep", "sessions"), "accept", "relay: Bulkhead's accept rate over each peer's")
    for r in pick("relay"):
        for k in [k for k in r if k.startswith("cpu_") and k != "cpu_ms"]:
            r[k + " user"], r[k + " system"] = r[k]
    names = sorted({k for r in pick("relay") for k in r if k.endswith(" user") or k.endswith(" system")})
    table([r for r in pick("relay") if r["peer"] == "bulkhead"], ("size", "keep", "sessions"), names, "processor milliseconds a message, by daemon")
    table(pick("tls"), ("key", "mode", "peer"), ("rate", "e2e", "resumed", "client_cpu", "cpu_ms", "errors"), "STARTTLS, a new connection each: handshakes (shake, "
          "reshake) and messages a second")
    ratios(pick("tls"), ("key", "mode"), "rate", "STARTTLS: Bulkhead's rate over each peer's")
    table(pick("many"), ("peer", "conns"), ("rate_without", "rate_with", "alive", "smtpd_base_kb", "smtpd_full_kb"), "idle sessions in one smtpd process while mail flows")
    table(pick("idle"), ("peer", "tls"), ("conns", "base_kb", "full_kb", "per_conn_kb", "kernel_per_conn_kb", "processes",
                                    "open_seconds"), "idle connections")
    table(pick("queue"), ("peer", "count"), ("inject", "first_s", "drain_s", "rate", "peak_kb", "delivered", "cpu_ms"), "queue run")
    table(pick("loss"), ("peer",), ("count", "acked", "unknown", "lost", "unknown_delivered", "duplicates",
                                    "extra_copies", "left_in_queue"), "kill -9")
    calls = sorted({c for r in pick("syncs") for c in r["per_message"]})
    for r in pick("syncs"):
        r.update(r["per_message"])
    table(pick("syncs"), ("peer",), calls, "system calls per message")


main()
