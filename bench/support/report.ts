import type { Benchmark, Finding } from "./benchmark.ts";

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

/** docs/performance.md. */
export function performancePage(
  machine: readonly string[],
  at: Date,
  results: readonly { readonly benchmark: Benchmark; readonly findings: readonly Finding[] }[],
): string {
  const rows = results.flatMap(({ findings }) =>
    findings.map(
      ({ promise, estimate, limit, unit, verdict }) =>
        `| ${promise} | ${figure(limit, unit)} | ${figure(estimate.median, unit)} | ${figure(estimate.low, unit)} to ${figure(estimate.high, unit)} | ${verdict} |`,
    ),
  );
  const sections = results.map(({ benchmark, findings }) =>
    [
      `## ${benchmark.name}`,
      "",
      benchmark.method,
      "",
      ...findings.flatMap(({ details }) => details),
      "",
      ...(benchmark.tuned ?? []).flatMap((line) => [line, ""]),
    ].join("\n"),
  );
  return `# Performance

Written by \`npm run bench\`; do not edit. What is compared is measured in turn within one run, and the ratio is taken of each pair, so the machine's mood falls out.
A figure is the median with its 95 % interval by order statistics. A promise counts as missed only when the whole interval lies beyond its limit.

Measured on ${at.toISOString().slice(0, 10)}:

${machine.map((line) => `- ${line}`).join("\n")}

![What each promise came to, as a share of the most it may be](performance.svg)

| promise | at most | measured | 95 % interval | |
|---|---|---|---|---|
${rows.join("\n")}

${sections.join("\n")}`;
}
