import { type KeyObject, timingSafeEqual } from 'node:crypto'
import type { UnixSeconds } from '../clock.ts'
import { type HotpParameters, hotp, hotpNumber } from './hotp.ts'

/** What a verifier and an authenticator app agreed on at enrollment. */
export interface TotpParameters extends HotpParameters {
  /** Length of a time step, X in RFC 6238 §4.1. */
  periodSeconds: number
}

/** The time step that `at` lies in: T in RFC 6238 §4.2, with T0 = 0. */
export function stepAt(at: UnixSeconds, periodSeconds: number): number {
  return Math.floor(at / periodSeconds)
}

/** The code that an app with a right clock shows at `at`. RFC 6238 §4.2. */
export function totpAt(secret: KeyObject, at: UnixSeconds, parameters: TotpParameters): string {
  return hotp(secret, stepAt(at, parameters.periodSeconds), parameters)
}

/**
 * The time step that produced `code`, or null when none in the window did. RFC 6238 §4.2, §5.2.
 * Every step of the window is computed even after a match, so timing does not tell which one it was. Of several that match,
 * once in a million, it is the latest: whoever saw the code cannot use it in the later step.
 *
 * @param code - compared as a text of exactly `digits` ASCII digits; anything else matches nothing
 * @param at - the verifier's clock
 * @param parameters - `window` counts steps on each side: 1 forgives a phone that is one period off
 * @throws RangeError when `at` is negative: a bug in the caller, not a wrong code
 */
export function matchStep(
  secret: KeyObject,
  code: string,
  at: UnixSeconds,
  parameters: TotpParameters & { window: number },
): number | null {
  if (at < 0) throw new RangeError('time must not be negative (Unix seconds)')
  // Checked as a pattern, not by length: full-width digits have the length, and other bytes (otpauth throws on them).
  if (code.length !== parameters.digits || !/^[0-9]+$/.test(code)) return null
  // As numbers, in four bytes each: there is nothing to pad, and the comparison takes as long for every code.
  const given = Uint32Array.of(Number(code))
  const expected = new Uint32Array(1)
  const now = stepAt(at, parameters.periodSeconds)
  let matched: number | null = null
  for (let step = Math.max(0, now - parameters.window); step <= now + parameters.window; step++) {
    expected[0] = hotpNumber(secret, step, parameters)
    if (timingSafeEqual(expected, given)) matched = step
  }
  return matched
}
