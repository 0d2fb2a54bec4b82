import { z } from "zod";

/** What may be named: lower-case letters, digits and dashes, beginning with a letter or digit, at most 63 characters. */
export const namePattern = /^[a-z0-9][a-z0-9-]{0,62}$/;

/** The prefixes of ids, by kind of object. An id is its prefix, a dash and 17 hex digits, random and never reused. */
export const idPrefixes = {
  instance: "i",
  image: "img",
  template: "tpl",
  archive: "arc",
  pool: "pool",
  operation: "op",
  node: "n",
  project: "p",
  token: "t",
  user: "u",
  snapshot: "snap",
} as const;

export type IdKind = keyof typeof idPrefixes;

/** Whether `text` has the shape of any id; a name of this shape is refused, so that paths can take either. */
export function isId(text: string): boolean {
  return /^[a-z]{1,8}-[0-9a-f]{17}$/.test(text);
}

/** The schema of one kind's ids. */
export function idSchema(kind: IdKind) {
  return z
    .string()
    .regex(new RegExp(`^${idPrefixes[kind]}-[0-9a-f]{17}$`), `must look like ${idPrefixes[kind]}-0123456789abcdef0`);
}

/** A name the user gives; one shaped like an id is refused. */
export const Name = z
  .string()
  .regex(namePattern, "must be 1 to 63 lower-case letters, digits or dashes and begin with a letter or digit")
  .regex(/^(?![a-z]{1,8}-[0-9a-f]{17}$)/, "must not have the shape of an id");

/** What stands in a path for one object: its id or its name. */
export const IdOrName = z.string().min(1).max(63).regex(namePattern, "must be an id or a name");

/** Milliseconds since the Unix epoch travel as RFC 3339 text in UTC. */
export const Timestamp = z.iso.datetime();

/** The key of a label, as in Kubernetes' unprefixed or prefixed form. */
export const LabelKey = z
  .string()
  .regex(/^[A-Za-z0-9]([A-Za-z0-9._/-]{0,126}[A-Za-z0-9])?$/, "must be a label key such as team or example.com/team");
export const LabelValue = z.string().max(255);

/** Labels: at most 64 pairs. */
export const Labels = z
  .record(LabelKey, LabelValue)
  .refine((labels) => Object.keys(labels).length <= 64, "at most 64 labels")
  .meta({ maxProperties: 64 });

/** A number as a query writes it: decimal digits and nothing else, so that `0x10`, `1e2` or an empty text are refused. */
export function numberFromText(number: z.ZodNumber) {
  return z
    .string()
    .regex(/^\d{1,15}(\.\d{1,3})?$/, "must be a number written in digits")
    .transform(Number)
    .pipe(number);
}

/** A yes or no as a query writes it. */
export const YesOrNo = z.stringbool({
  truthy: ["true"],
  falsy: ["false"],
  case: "sensitive",
  error: "must be true or false",
});

/** The query every list takes. `cursor` is opaque: take it from the page before. */
export const PageQuery = z.object({
  project: Name.optional(),
  cursor: z.string().max(512).optional(),
  limit: numberFromText(z.number().int().min(1).max(500)).default(100),
});

/** A page of a list; `nextCursor` is null on the last. */
export function pageOf<T extends z.ZodType>(item: T) {
  return z.object({ items: z.array(item), nextCursor: z.string().nullable() });
}

/** The query of a change: `wait` is how long to wait for its operation to end, in seconds; `queue` waits for a busy object instead of answering 409. */
export const ChangeQuery = z.object({
  project: Name.optional(),
  wait: numberFromText(z.number().min(0).max(600)).optional(),
  queue: YesOrNo.optional(),
});
