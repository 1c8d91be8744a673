import type { UnixSeconds } from './clock.ts'
import type { ErrorCode } from './errors.ts'

/** How a second factor was proved: with a code of the authenticator app, or with a backup code. */
export type SecondFactorMethod = 'totp' | 'backup_code'

/** Who causes something: an option of the functions that change or verify factors, and a part of the events that follow. */
export interface By {
  /** The user's session that makes the call, as the host names it. Default: none. */
  sessionId?: string | null | undefined
  /**
   * Who acts on behalf of the user, as the host names them, for example `support:ann`. 1 to 255 characters. Default: the
   * user acts.
   */
  actor?: string | undefined
}

/** What the flows announce. None of them holds a secret, a code, a token or a sealed value. */
export type TotpEvent = {
  /** The user whom it is about. */
  userId: string
  /** When it happened, in Unix seconds. */
  at: UnixSeconds
  /** The user's session that caused it, as the host names it. Absent: a login, or a call that names no session. */
  sessionId?: string
  /** Who acted on behalf of the user, as the host names them. Absent: the user. */
  actor?: string
} & (
  | { type: 'totp.created' }
  /** An enrollment was confirmed. */
  | {
      type: 'totp.confirmed'
      /** True: it replaced a live authenticator. */
      replaced: boolean
      /** True: it stands beside a live authenticator. Both false: 2FA is on from now. */
      added: boolean
    }
  /** An authenticator that the user had elsewhere. */
  | {
      type: 'totp.imported'
      /** The authenticator, as `getStatus` names it. */
      authenticatorId: string
      /** True: it stands beside a live authenticator. False: 2FA is on from now. */
      added: boolean
    }
  | { type: 'totp.disabled' }
  | {
      type: 'totp.verified'
      /** What was used: a code of the app or a backup code. */
      method: SecondFactorMethod
    }
  | {
      type: 'totp.refused'
      /** What was used: a code of the app or a backup code. */
      method: SecondFactorMethod
      /** Why it was refused. */
      code: ErrorCode
    }
  /**
   * So many wrong codes in a row, after a right password, that the next attempt has to wait: somebody may know the
   * password. `recovery_password`: so many wrong passwords with a recovery link; somebody may read the mail.
   */
  | {
      type: 'totp.failing'
      /** What was wrong: codes of one kind, or passwords with a recovery link. */
      method: SecondFactorMethod | 'recovery_password'
      /** Wrong ones in a row. */
      consecutive: number
    }
  /** The hard cap is reached. */
  | {
      type: 'totp.locked'
      /** What is no longer accepted: codes of one kind, or passwords with a recovery link. */
      method: SecondFactorMethod | 'recovery_password'
    }
  | { type: 'totp.unlocked' }
  /** The app's clock is off; two codes in a row have shown by how much. */
  | {
      type: 'totp.resynchronized'
      /** The authenticator, as `getStatus` names it. */
      authenticatorId: string
      /** How many seconds the app's clock is ahead; negative: behind. */
      clockOffsetSeconds: number
    }
  | {
      type: 'authenticator.removed'
      /** The authenticator, as `getStatus` names it. */
      authenticatorId: string
    }
  | {
      type: 'authenticator.renamed'
      /** The authenticator, as `getStatus` names it. */
      authenticatorId: string
    }
  | { type: 'login.challenged' }
  | { type: 'step_up.refused' }
  | { type: 'enrollment.required' }
  | { type: 'backup_codes.rotated' }
  | { type: 'backup_codes.viewed' }
  /** The user has saved the current codes. */
  | { type: 'backup_codes.saved' }
  | {
      type: 'backup_code.used'
      /** Unused backup codes that are left. */
      remaining: number
    }
  | {
      type: 'trusted_device.kept'
      /** The device, as `listTrustedDevices` names it. */
      deviceId: string
      /** The name of the device; null: none was given. */
      name: string | null
    }
  | {
      type: 'trusted_device.used'
      /** The device, as `listTrustedDevices` names it. */
      deviceId: string
    }
  /**
   * Its token was used before, the device has expired or was removed, or the factors have changed.
   */
  | {
      type: 'trusted_device.refused'
      /** The device, as `listTrustedDevices` names it. */
      deviceId: string
      /** True: the device was trusted until now, and ended because its token was used before. */
      copied: boolean
    }
  | {
      type: 'trusted_device.removed'
      /** The device, as `listTrustedDevices` names it. */
      deviceId: string
    }
  | { type: 'recovery.requested' }
  | {
      type: 'recovery.refused'
      /** Why it was refused. */
      code: ErrorCode
    }
  /** 2FA is off, after link and password. */
  | { type: 'recovery.confirmed' }
  | { type: 'recovery.canceled' }
  /**
   * A refresh token that is not the current one of its family; the family has ended.
   */
  | {
      type: 'tokens.refused'
      /**
       * True, once per family: the token was replaced by a newer one before, so somebody may have a copy of it. False for the
       * token that was logged out with, and for one that a change of factors or credentials ended.
       */
      reused: boolean
    }
  | { type: 'credentials.changed' }
  /**
   * The factors or the credentials changed: end all sessions of the user except `keptSessionId`. Comes before the event that
   * says what changed.
   */
  | {
      type: 'sessions.ended'
      /** The session that made the change and goes on; null: all of them end. */
      keptSessionId: string | null
    }
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
  'authenticator.renamed',
  'login.challenged',
  'step_up.refused',
  'enrollment.required',
  'backup_codes.rotated',
  'backup_codes.viewed',
  'backup_codes.saved',
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
