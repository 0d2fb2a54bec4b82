import type { Benchmark, Finding } from "./benchmark.ts";

/** `1.32 x (1.28 to 1.41), at most 2 x: kept`. */
export function describeFinding({ promise, estimate, limit, unit, verdict }: Finding): string {
  return `${promise}: ${figure(estimate.median, unit)} (${figure(estimate.low, unit)} to ${figure(estimate.high, unit)}), at most ${limit} ${unit}: ${verdict}`;
}

function figure(value: number, unit: Finding["unit"]): string {
  return `${value.toFixed(unit === "x" ? 2 : 0)} ${unit}`;
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
        `| ${promise} | ${limit} ${unit} | ${figure(estimate.median, unit)} | ${figure(estimate.low, unit)} to ${figure(estimate.high, unit)} | ${verdict} |`,
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

| promise | at most | measured | 95 % interval | |
|---|---|---|---|---|
${rows.join("\n")}

${sections.join("\n")}`;
}
