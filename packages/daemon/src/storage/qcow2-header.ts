/** Bytes of the longest header that is read, its extensions included: one cluster. */
export const maxHeaderBytes = 64 * 1024;

/** Feature names for people, the only extension that a disk packed here has (QEMU's docs/interop/qcow2.txt). */
const featureNames = 0x6803f857;
/** Clusters may be compressed by other means than zlib; all other incompatible features are refused. */
const compressionBit = 8n;

/** Header extensions that lead elsewhere, for the words of a refusal. */
const extensionNames: ReadonlyMap<number, string> = new Map([
  [0xe2792aca, "a backing file"],
  [0x44415441, "a data file"],
  [0x0537be77, "encryption"],
  [0x23852875, "bitmaps"],
]);

/**
 * What is wrong with the beginning of a qcow2 file that is said to stand on its own and to be so large for its guest; undefined when nothing is. Looked at before any program
 * opens the file: a backing or data file would be any file of the host, and a feature that no packed disk has is not worth a program's attempt to read it. Pure.
 */
export function refuseQcow2(header: Uint8Array, sizeBytes: number): string | undefined {
  const view = new DataView(header.buffer, header.byteOffset, header.byteLength);
  if (header.length < 112 || view.getUint32(0) !== 0x514649fb) return "is no qcow2 file";
  if (view.getUint32(4) !== 3) return `has version ${view.getUint32(4)} of qcow2, not 3`;
  if (view.getBigUint64(8) !== 0n || view.getUint32(16) !== 0) return "has a backing file";
  const clusterBits = view.getUint32(20);
  if (clusterBits < 9 || clusterBits > 21) return "has clusters of an impossible size";
  const size = view.getBigUint64(24);
  if (size !== BigInt(sizeBytes)) return `has ${size} bytes for its guest, and ${sizeBytes} were promised`;
  if (view.getUint32(32) !== 0) return "is encrypted";
  if (view.getUint32(60) !== 0) return "has snapshots inside";
  if ((view.getBigUint64(72) & ~compressionBit) !== 0n) return "has features that no packed disk has";
  if (view.getBigUint64(80) !== 0n || view.getBigUint64(88) !== 0n) return "has features that no packed disk has";
  return refuseExtensions(view, view.getUint32(100));
}

function refuseExtensions(view: DataView, headerLength: number): string | undefined {
  for (let at = headerLength; at + 8 <= view.byteLength; ) {
    const type = view.getUint32(at);
    if (type === 0) return undefined;
    if (type !== featureNames) return `has ${extensionNames.get(type) ?? "an extension that no packed disk has"}`;
    at += 8 + Math.ceil(view.getUint32(at + 4) / 8) * 8;
  }
  return "has a header without end";
}

/** What a qcow2 file's header says (QEMU's docs/interop/qcow2). Whoever may write the file may have made it up. */
export interface Qcow2Header {
  /** How large a guest sees it. */
  readonly sizeBytes: number;
  /** The file below it, as it is written there; null when it stands alone. */
  readonly backingPath: string | null;
}

const magic = 0x514649fb;
const fixedBytes = 72;
const maxNameBytes = 1023;

/** Reads the header from the beginning of a file; undefined when it is none. */
export function parseQcow2Header(bytes: Uint8Array): Qcow2Header | undefined {
  if (bytes.length < fixedBytes) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const version = view.getUint32(4);
  if (view.getUint32(0) !== magic || version < 2 || version > 3) return undefined;
  const nameAt = Number(view.getBigUint64(8));
  const nameBytes = view.getUint32(16);
  const sizeBytes = Number(view.getBigUint64(24));
  if (nameAt === 0) return { sizeBytes, backingPath: null };
  if (nameBytes > maxNameBytes || nameAt + nameBytes > bytes.length) return undefined;
  const backingPath = new TextDecoder().decode(bytes.subarray(nameAt, nameAt + nameBytes));
  return { sizeBytes, backingPath };
}
