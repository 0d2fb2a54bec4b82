/** docker's --restart. */
export const restart = {
  kind: "parsed",
  parse: parsePolicy,
  brief: "When it has ended, start it again: no, on-failure, on-failure:3, always, unless-stopped",
  placeholder: "POLICY",
  optional: true,
} as const;

function parsePolicy(input: string): string {
  if (/^(no|on-failure(:[1-9]\d{0,4})?|always|unless-stopped)$/.test(input)) return input;
  throw new SyntaxError("must be no, on-failure, on-failure:3, always or unless-stopped");
}
