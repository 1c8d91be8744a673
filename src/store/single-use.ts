import type { UnixSeconds } from '../clock.ts'
import type { SingleUse, UserRecord } from './store.ts'

/** How far the clocks of two processes may differ: as much as Fernet forgives (`crypto/fernet.ts`). */
export const MAX_CLOCK_SKEW_SECONDS = 60

/**
 * Whether a token is stale even if it was never burnt. An expired one is: its burnt mark may be forgotten, and a request
 * that opened the token in its last second must not find it fresh again.
 */
export function isOutdated(token: SingleUse, user: UserRecord, now: UnixSeconds): boolean {
  return token.generation !== user.generation || token.expiresAt < now
}
