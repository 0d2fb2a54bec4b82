/** A text as nft takes it for a comment: it knows no escapes, and takes at most 128 bytes. */
export function asComment(text: string): string {
  return text.replaceAll(/[^\x20-\x7e]|["\\]/g, "?").slice(0, 127);
}
