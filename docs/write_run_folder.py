#!/usr/bin/env python3
"""Writes a run folder by hand: what encapbench needs at the least to report, judge and compare it.

    docs/write_run_folder.py FOLDER [--blocks N] [--seed N] [--ratio R] [--cv PERCENT] [--base MB_PER_SECOND] [--day N]

Two paths, one TCP workload and one latency workload; figures are drawn from lognormal distributions around known
medians, so that the intervals which encapbench prints can be checked against the truth. Needs nothing but Python.
docs/run-folder.md explains the files.
"""

import argparse
import base64
import json
import math
import os
import random
import struct


def histogram(nanoseconds):
    """Times as an HdrHistogram (1 ns to 60 s, 3 digits), encoded as V2, then base64."""
    counts = {}
    for value in nanoseconds:
        bucket = max(0, value.bit_length() - 11)
        index = bucket * 1024 + (value >> bucket)
        counts[index] = counts.get(index, 0) + 1
    payload = bytearray()

    def put(number):  # ZigZag, then LEB128 of at most 9 bytes
        number = (number << 1) ^ (number >> 63)
        for _ in range(8):
            if number < 0x80:
                break
            payload.append(number & 0x7F | 0x80)
            number >>= 7
        payload.append(number)

    last = -1
    for index in sorted(counts):
        zeros = index - last - 1
        if zeros:
            put(-zeros)
        put(counts[index])
        last = index
    head = struct.pack(">iiiiqqd", 0x1C849313, len(payload), 0, 3, 1, 60_000_000_000, 1.0)
    return base64.b64encode(head + bytes(payload)).decode()


def case(path, sender, receiver, workload):
    return {
        "slug": f"{path}--{workload['name']}",
        "path": {
            "name": path,
            "from": sender,
            "to": receiver,
            "expected": "none",
            "same-node": False,
            "same-subnet": True,
        },
        "workload": workload,
    }


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("folder")
    arguments.add_argument("--blocks", type=int, default=6)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--ratio", type=float, default=0.9, help="the true median ratio of the second path")
    arguments.add_argument("--cv", type=float, default=5.0, help="the trials' coefficient of variation, in percent")
    arguments.add_argument("--base", type=float, default=1000.0, help="the first path's true median, in MB/s")
    arguments.add_argument("--day", type=int, default=1, help="the day of January 2026 on which the run began")
    asked = arguments.parse_args()
    draws = random.Random(asked.seed)
    sigma = math.sqrt(math.log1p((asked.cv / 100) ** 2))

    paths = [("direct", "a", "b", 1.0), ("tunnel", "pod@a/Always", "pod@b/Always", asked.ratio)]
    workloads = [
        {"name": "tcp", "throughput": {"duration": "1s"}},
        {"name": "rr", "latency": {"kind": "tcp-rr", "duration": "1s"}},
    ]
    manifest = {
        "format": 1,
        "started": f"2026-01-{asked.day:02}T00:00:00Z",
        "scenario": {
            "name": "by-hand",
            "fabric": {"lab": {"clusters": [{"name": "c", "subnets": [{"nodes": ["a", "b"]}]}]}},
            "paths": [
                {"name": "direct", "from": "a", "to": "b"},
                {"name": "tunnel", "from": "pod@a", "to": "pod@b", "vxlan-mode": "Always"},
            ],
            "workloads": workloads,
            "blocks": {"at-least": asked.blocks},
            "relative-to": "direct",
            "gates": [
                {
                    "name": "the tunnel keeps 80 %",
                    "path": "tunnel",
                    "workload": "tcp",
                    "metric": "throughput",
                    "relative-to": "direct",
                    "at-least": 0.8,
                }
            ],
        },
        "cases": [case(name, sender, receiver, load) for name, sender, receiver, _ in paths for load in workloads],
    }
    manifest["cases"][2]["path"].update({"expected": "vxlan", "vxlan-mode": "Always"})
    manifest["cases"][3]["path"].update({"expected": "vxlan", "vxlan-mode": "Always"})

    os.makedirs(asked.folder)
    with open(os.path.join(asked.folder, "manifest.json"), "w", encoding="utf-8") as out:
        json.dump(manifest, out, indent=2)
    with open(os.path.join(asked.folder, "trials.jsonl"), "w", encoding="utf-8") as out:
        for block in range(1, asked.blocks + 1):
            for name, _, _, factor in paths:
                trial = {
                    "block": block,
                    "started": f"2026-01-{asked.day:02}T00:{block // 60:02}:{block % 60:02}Z",
                    "outcome": {"state": "measured"},
                    "verdict": {"state": "confirmed"},
                }
                rate = asked.base * 1e6 * factor * math.exp(sigma * draws.gauss(0, 1))
                stream = {"received_bytes": round(rate), "seconds": 1.0}
                print(json.dumps({**trial, "case": f"{name}--tcp", "throughput": {"streams": [stream]}}), file=out)
                middle = 50_000 / factor * math.exp(sigma * draws.gauss(0, 1))
                times = [max(1, round(middle * math.exp(0.1 * draws.gauss(0, 1)))) for _ in range(1200)]
                latency = {"transactions": len(times), "seconds": 1.0, "latency": histogram(times)}
                print(json.dumps({**trial, "case": f"{name}--rr", "latency": latency}), file=out)


if __name__ == "__main__":
    main()
