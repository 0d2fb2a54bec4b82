import { BerthError } from "@berth/api";
import { type Copy, DockerfileParser, type From, type Instruction } from "dockerfile-ast";

/** An image named in a Dockerfile, and where. */
export interface NamedImage {
  readonly reference: string;
  /** From 1. */
  readonly line: number;
  readonly start: number;
  readonly end: number;
}

export interface ParsedDockerfile {
  readonly text: string;
  /** Images that must be there before the build: of FROM and COPY --from, without `scratch` and earlier stages. */
  readonly images: readonly NamedImage[];
  /** The line of each instruction, by stage; both from 0. Instructions before the first FROM belong to none. */
  readonly lines: readonly (readonly number[])[];
}

const known = new Set(
  "ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL MAINTAINER ONBUILD RUN SHELL STOPSIGNAL USER VOLUME WORKDIR".split(
    " ",
  ),
);

/** Reads a Dockerfile far enough to know what it builds upon. Throws BerthError `build_failed` naming the line of what is wrong. */
export function parseDockerfile(text: string, buildArgs: Readonly<Record<string, string>>): ParsedDockerfile {
  const document = DockerfileParser.parse(text);
  const lineOf = (instruction: Instruction) => instruction.getRange().start.line + 1;
  const fail = (line: number, why: string): BerthError =>
    new BerthError("build_failed", `Dockerfile line ${line}: ${why}.`);
  const offsets = lineOffsets(text);
  const variables = new Map<string, string>();
  const stages: string[] = [];
  const lines: number[][] = [];
  const images: NamedImage[] = [];

  function name(instruction: Instruction, written: string, range: { start: Position; end: Position }): void {
    const line = lineOf(instruction);
    const reference = expand(written, variables);
    if (reference === undefined) throw fail(line, `${written} names a variable that has no value here`);
    if (reference === "scratch" || stages.includes(reference.toLowerCase())) return;
    const offset = ({ line, character }: Position) => (offsets[line] ?? 0) + character;
    images.push({ reference, line, start: offset(range.start), end: offset(range.end) });
  }

  for (const instruction of document.getInstructions()) {
    const keyword = instruction.getKeyword();
    const line = lineOf(instruction);
    if (!known.has(keyword)) throw fail(line, `${instruction.getInstruction()} is not an instruction`);
    if (stages.length === 0 && keyword !== "FROM" && keyword !== "ARG")
      throw fail(line, `${keyword} stands before the first FROM`);
    if (instruction.getArguments().length === 0) throw fail(line, `${keyword} needs an argument`);
    if (keyword === "ARG" && stages.length === 0) {
      for (const argument of instruction.getArguments()) {
        const [, key = "", value] = /^([^=]+)(?:=(.*))?$/s.exec(argument.getValue()) ?? [];
        const given = buildArgs[key] ?? (value === undefined ? undefined : expand(unquote(value), variables));
        if (given !== undefined) variables.set(key, given);
      }
    }
    if (keyword === "FROM") {
      const from = instruction as From;
      const image = from.getImage();
      const range = from.getImageRange();
      if (!image || !range) throw fail(line, "FROM names no image");
      name(from, image, range);
      stages.push((from.getBuildStage() ?? String(stages.length)).toLowerCase());
      lines.push([]);
    }
    if (keyword === "COPY") {
      const flag = (instruction as Copy).getFromFlag();
      const value = flag?.getValue();
      const range = flag?.getValueRange();
      // A number is an earlier stage.
      if (value && range && !/^\d+$/.test(value)) name(instruction, value, range);
    }
    lines.at(-1)?.push(line);
  }
  if (stages.length === 0) throw fail(1, "there is no FROM");
  return { text, images, lines };
}

/** The Dockerfile with each named image replaced; lines stay where they are. */
export function replaceImages(parsed: ParsedDockerfile, replacement: (image: NamedImage) => string): string {
  let text = parsed.text;
  for (const image of parsed.images.toSorted((a, b) => b.start - a.start)) {
    text = text.slice(0, image.start) + replacement(image) + text.slice(image.end);
  }
  return text;
}

interface Position {
  readonly line: number;
  readonly character: number;
}

function lineOffsets(text: string): number[] {
  const offsets = [0];
  for (const match of text.matchAll(/\r\n|\n|\r/g)) offsets.push(match.index + match[0].length);
  return offsets;
}

function unquote(value: string): string {
  return value.replace(/^(["'])(.*)\1$/s, "$2");
}

/** `$V`, `${V}`, `${V:-default}`, `${V:+other}`; undefined when a variable has no value. */
function expand(text: string, variables: ReadonlyMap<string, string>): string | undefined {
  let complete = true;
  const expanded = text.replaceAll(
    /\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)(?::([-+])([^}]*))?\})/g,
    (_whole, plain: string | undefined, braced: string | undefined, operator: string | undefined, word = "") => {
      const value = variables.get(plain ?? braced ?? "");
      if (operator === "-") return value || word;
      if (operator === "+") return value ? word : "";
      if (value === undefined) complete = false;
      return value ?? "";
    },
  );
  return complete ? expanded : undefined;
}
