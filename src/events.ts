import type { UnixSeconds } from './clock.ts'
import type { ErrorCode } from './errors.ts'

/** How a second factor was proved: with a code of the authenticator app, or with a backup code. */
export type SecondFactorMethod = 'totp' | 'backup_code'

/** What the flows announce. None of them holds a secret, a code, a token or a sealed value. */
export type TotpEvent = { userId: string; at: UnixSeconds } & (
  | { type: 'totp.created' }
  /** `replaced`: in the place of a live authenticator; `added`: beside one. Both false: 2FA is on from now. */
  | { type: 'totp.confirmed'; replaced: boolean; added: boolean }
  /** An authenticator that the user had elsewhere. `added`: beside a live one; else 2FA is on from now. */
  | { type: 'totp.imported'; authenticatorId: string; added: boolean }
  | { type: 'totp.disabled' }
  | { type: 'totp.verified'; method: SecondFactorMethod }
  | { type: 'totp.refused'; method: SecondFactorMethod; code: ErrorCode }
  /**
   * So many wrong codes in a row, after a right password, that the next attempt has to wait: somebody may know the
   * password. `recovery_password`: so many wrong passwords with a recovery link; somebody may read the mail.
   */
  | { type: 'totp.failing'; method: SecondFactorMethod | 'recovery_password'; consecutive: number }
  /** The hard cap is reached. */
  | { type: 'totp.locked'; method: SecondFactorMethod | 'recovery_password' }
  | { type: 'totp.unlocked' }
  /** The app's clock is off; two codes in a row have shown by how much. */
  | { type: 'totp.resynchronized'; authenticatorId: string; clockOffsetSeconds: number }
  | { type: 'authenticator.removed'; authenticatorId: string }
  | { type: 'login.challenged' }
  | { type: 'step_up.refused' }
  | { type: 'enrollment.required' }
  | { type: 'backup_codes.rotated' }
  | { type: 'backup_codes.viewed' }
  | { type: 'backup_code.used'; remaining: number }
  | { type: 'trusted_device.kept'; deviceId: string; name: string | null }
  | { type: 'trusted_device.used'; deviceId: string }
  /**
   * Its token was used before, the device has expired or was removed, or the factors have changed. `copied`: the device was
   * trusted until now, and ended because the token was used before.
   */
  | { type: 'trusted_device.refused'; deviceId: string; copied: boolean }
  | { type: 'trusted_device.removed'; deviceId: string }
  | { type: 'recovery.requested' }
  | { type: 'recovery.refused'; code: ErrorCode }
  /** 2FA is off, after link and password. */
  | { type: 'recovery.confirmed' }
  | { type: 'recovery.canceled' }
  /**
   * A refresh token that is not the living one of its family; the family has ended. `reused`: the token was replaced or
   * logged out before, and not ended by a change; true once per family.
   */
  | { type: 'tokens.refused'; reused: boolean }
  | { type: 'credentials.changed' }
  /**
   * The factors or the credentials changed: end all sessions of the user except `keptSessionId`, the one that made the
   * change; null: all of them. Comes before the event that says what changed.
   */
  | { type: 'sessions.ended'; keptSessionId: string | null }
  /** Everything that was known of the user is deleted. */
  | { type: 'user.forgotten' }
  | { type: 'secret.unreadable' }
  | { type: 'mail.failed' }
)

/** Every kind of event; the compiler holds the list to {@link TotpEvent}. */
export const TOTP_EVENTS = [
  'totp.created',
  'totp.confirmed',
  'totp.imported',
  'totp.disabled',
  'totp.verified',
  'totp.refused',
  'totp.failing',
  'totp.locked',
  'totp.unlocked',
  'totp.resynchronized',
  'authenticator.removed',
  'login.challenged',
  'step_up.refused',
  'enrollment.required',
  'backup_codes.rotated',
  'backup_codes.viewed',
  'backup_code.used',
  'trusted_device.kept',
  'trusted_device.used',
  'trusted_device.refused',
  'trusted_device.removed',
  'recovery.requested',
  'recovery.refused',
  'recovery.confirmed',
  'recovery.canceled',
  'tokens.refused',
  'credentials.changed',
  'sessions.ended',
  'user.forgotten',
  'secret.unreadable',
  'mail.failed',
] as const satisfies readonly TotpEvent['type'][]
