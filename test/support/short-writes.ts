import { type FileHandle, open } from "node:fs/promises";

/** Until disposed of, no write of this process through a FileHandle takes more than half of what it is given, as POSIX allows any write to do. */
export async function shortWrites(): Promise<Disposable> {
  const some = await open("/dev/null");
  const handles = Object.getPrototypeOf(some) as { write(this: FileHandle, ...args: unknown[]): Promise<unknown> };
  await some.close();
  const { write } = handles;
  handles.write = function (bytes, offset, length, position) {
    return write.call(this, bytes, offset, Math.ceil(Number(length) / 2), position);
  };
  return {
    [Symbol.dispose]() {
      handles.write = write;
    },
  };
}
