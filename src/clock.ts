/** Whole seconds since 1970-01-01T00:00:00Z, leap seconds not counted (RFC 6238 §4.1). */
export type UnixSeconds = number

/** Tells the time. The library reads the clock through one of these and nowhere else, once per operation. */
export type Clock = () => UnixSeconds

/** The clock of this machine. */
export const systemClock: Clock = () => Math.floor(Date.now() / 1000)

/** A question that is false for `milliseconds` and true from then on, whatever happens to the machine's time of day. */
export function deadline(milliseconds: number): () => boolean {
  const end = performance.now() + milliseconds
  return () => performance.now() >= end
}
