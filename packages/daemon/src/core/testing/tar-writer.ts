/** What a test puts into an archive. Names are byte strings. */
export interface TarItem {
  readonly path: string;
  /** `0` file, `1` hard link, `2` symbolic link, `3` device, `5` directory, `6` FIFO, or any other. */
  readonly type?: string;
  readonly content?: string | Buffer;
  readonly target?: string;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  /** Whole seconds; give `pax.mtime` for more. */
  readonly mtime?: number;
  readonly pax?: Readonly<Record<string, string | Buffer>>;
}

/** An archive made byte by byte, so that it can hold what no tool would write. */
export function writeTar(items: readonly TarItem[]): Buffer {
  return Buffer.concat([...items.flatMap(encode), Buffer.alloc(1024)]);
}

function encode(item: TarItem): Buffer[] {
  const { pax } = item;
  if (!pax) return member(item);
  const records = Object.entries(pax).map(([key, value]) => {
    const body = Buffer.concat([
      Buffer.from(` ${key}=`, "latin1"),
      Buffer.from(value as string, "latin1"),
      Buffer.from("\n"),
    ]);
    let length = body.length + 1;
    while (String(length).length + body.length !== length) length = String(length).length + body.length;
    return Buffer.concat([Buffer.from(String(length)), body]);
  });
  return [...member({ path: "pax", type: "x", content: Buffer.concat(records) }), ...member(item)];
}

function member({
  path,
  type = "0",
  content = "",
  target = "",
  mode = 0o644,
  uid = 0,
  gid = 0,
  mtime = 0,
}: TarItem): Buffer[] {
  const header = Buffer.alloc(512);
  const body = Buffer.from(content as string, "latin1");
  const octal = (value: number, at: number, length: number) =>
    header.write(value.toString(8).padStart(length - 1, "0"), at, "latin1");
  header.write(path, 0, 100, "latin1");
  octal(mode, 100, 8);
  octal(uid, 108, 8);
  octal(gid, 116, 8);
  octal(body.length, 124, 12);
  octal(mtime, 136, 12);
  header.write("        ", 148);
  header.write(type, 156, "latin1");
  header.write(target, 157, 100, "latin1");
  header.write("ustar\u000000", 257, "latin1");
  octal(
    header.reduce((sum, byte) => sum + byte, 0),
    148,
    7,
  );
  return [header, body, Buffer.alloc((512 - (body.length % 512)) % 512)];
}
