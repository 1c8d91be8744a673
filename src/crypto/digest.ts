import { createHmac, type KeyObject } from 'node:crypto'

/**
 * The keyed digests under which a user's backup code may be stored, one for each key of the ring, the newest first.
 * HMAC-SHA-256 over user and code: equal codes of two users have different digests, and the database alone says nothing.
 *
 * @param code - in the one spelling of `readBackupCode`
 */
export function backupCodeDigests(keys: readonly KeyObject[], userId: string, code: string): string[] {
  const message = JSON.stringify([userId, code])
  return keys.map((key) => createHmac('sha256', key).update(message).digest('base64url'))
}
