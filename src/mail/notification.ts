import type { UnixSeconds } from '../clock.ts'
import type { SecondFactorMethod } from '../events.ts'

/**
 * Something that the owner of an account is told by mail. `recovery_link` and `recovery_requested` carry a link that
 * must reach nobody else: never log a notice whole.
 */
export type Notification = {
  /** One address. */
  to: string
  /** Whom it is about. */
  userId: string
  /** The service's name, as in the authenticator app. */
  issuer: string
  /** When it happened. */
  at: UnixSeconds
} & (
  | {
      kind: 'recovery_link' | 'recovery_requested'
      /** The link. It must reach nobody but the addressee. */
      url: string
      /** The first second in which the link works. */
      worksFrom: UnixSeconds
      /** The last second in which the link works. */
      expiresAt: UnixSeconds
    }
  | {
      kind: 'backup_code_used'
      /** Unused backup codes that are left. */
      remaining: number
    }
  | {
      kind: 'second_factor_locked'
      /** Which kind of code is no longer accepted. */
      method: SecondFactorMethod
    }
  | {
      kind: 'trusted_device_kept'
      /** The name of the device; null: none was given. */
      name: string | null
    }
  | {
      kind: 'totp_resynchronized'
      /** How many seconds the app's clock is ahead; negative: behind. */
      clockOffsetSeconds: number
    }
  | {
      kind:
        | 'totp_enabled'
        | 'totp_replaced'
        | 'authenticator_added'
        | 'authenticator_removed'
        | 'totp_disabled'
        | 'backup_codes_rotated'
        | 'backup_codes_viewed'
        | 'trusted_device_copied'
        | 'refresh_token_reused'
        | 'second_factor_failing'
        | 'recovery_failing'
        | 'recovery_locked'
        | 'recovery_confirmed'
        | 'recovery_canceled'
    }
)

/** Which notification it is. */
export type NotificationKind = Notification['kind']

/** Sends one mail. Rejects when it could not be handed over. */
export type SendNotification = (notice: Notification) => Promise<void>
