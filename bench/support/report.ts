import type { Benchmark, Finding } from "./benchmark.ts";
import type { Result } from "./results.ts";

/** `1.32 x (1.28 x to 1.41 x), at most 2 x`. */
export function describeEstimate({ estimate, limit, unit }: Finding): string {
  const { median, low, high } = estimate;
  return `${figure(median, unit)} (${figure(low, unit)} to ${figure(high, unit)}), at most ${figure(limit, unit)}`;
}

/** A line for who waits: the promise, its figures and the verdict. */
export function describeFinding(finding: Finding): string {
  return `${finding.promise}: ${describeEstimate(finding)}: ${finding.verdict}`;
}

function figure(value: number, unit: Finding["unit"]): string {
  return unit === "x" ? `${Number(value.toPrecision(3))} x` : `${value.toFixed(0)} ${unit}`;
}

/** docs/performance.md, from what each benchmark measured last. */
export function performancePage(
  measured: readonly { readonly benchmark: Benchmark; readonly result: Result }[],
): string {
  const rows = measured.flatMap(({ result }) =>
    result.findings.map(
      ({ promise, estimate, limit, unit, verdict }) =>
        `| ${promise} | ${figure(limit, unit)} | ${figure(estimate.median, unit)} | ${figure(estimate.low, unit)} to ${figure(estimate.high, unit)} | ${verdict} |`,
    ),
  );
  const sections = measured.map(({ benchmark, result }) =>
    [
      `## ${benchmark.name}`,
      "",
      benchmark.method,
      "",
      ...result.findings.flatMap(({ details }) => details),
      "",
      ...(benchmark.tuned ?? []).flatMap((line) => [line, ""]),
      `Measured on ${result.measuredAt.slice(0, 10)}: ${result.machine.join("; ")}.`,
      "",
    ].join("\n"),
  );
  return `# Performance

Written by \`npm run bench\`; do not edit. What is compared is measured in turn within one run, and the ratio is taken of each pair, so the machine's mood falls out.
A figure is the median with its 95 % interval by order statistics. A promise counts as missed only when the whole interval lies beyond its limit.

![What each promise came to, as a share of the most it may be](performance.svg)

| promise | at most | measured | 95 % interval | |
|---|---|---|---|---|
${rows.join("\n")}

${sections.join("\n")}`;
}
