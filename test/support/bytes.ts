/**
 * Text as bytes, and back.
 */
export const bytes = (text: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(text)

export const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes)
