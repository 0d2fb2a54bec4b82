import type { Finding } from "./benchmark.ts";
import { describeEstimate } from "./report.ts";

const width = 900;
const rowHeight = 46;
const top = 34;
const left = 16;
/** How much of what is promised fits in the picture, and what is beyond ends at its edge. */
const most = 1.5;
const scale = 580 / most;

/** Readable on light and dark pages. */
const colours = { kept: "#2f9e63", missed: "#d64545", "too close to tell": "#c8902a" } as const;
const ink = "#7a7f87";

/** docs/performance.svg: what each promise came to, as a share of the most it may be, with its 95 % interval. */
export function performanceChart(findings: readonly Finding[]): string {
  const height = top + findings.length * rowHeight + 12;
  const limit = left + scale;
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="system-ui, sans-serif" font-size="13" role="img" aria-label="What each promise came to, as a share of the most it may be">
<text x="${limit}" y="16" text-anchor="middle" fill="${ink}">the most it may be</text>
<line x1="${limit}" y1="22" x2="${limit}" y2="${height - 8}" stroke="${ink}" stroke-dasharray="4 3"/>
${findings.map((finding, index) => row(finding, top + index * rowHeight)).join("\n")}
</svg>
`;
}

function row(finding: Finding, y: number): string {
  const { promise, estimate, limit, verdict } = finding;
  // Of what may not be at all, none is nothing and any is too much.
  const share = (value: number) => (value === 0 ? 0 : Math.min(value / limit, most));
  const at = (value: number) => (left + share(value) * scale).toFixed(1);
  const colour = colours[verdict];
  const bar = y + 22;
  return [
    `<text x="${left}" y="${y + 14}" fill="${ink}">${escaped(promise)}</text>`,
    `<text x="${width - left}" y="${bar + 10}" text-anchor="end" fill="${colour}">${escaped(describeEstimate(finding))}</text>`,
    `<line x1="${left}" y1="${bar + 5}" x2="${at(estimate.median)}" y2="${bar + 5}" stroke="${colour}" stroke-width="10"/>`,
    `<line x1="${at(estimate.low)}" y1="${bar + 5}" x2="${at(estimate.high)}" y2="${bar + 5}" stroke="${ink}" stroke-width="2"/>`,
  ].join("\n");
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
