import type { UnixSeconds } from '../clock.ts'
import type { SecondFactorMethod } from '../events.ts'

/**
 * Something that the owner of an account is told by mail. `recovery_link` and `recovery_requested` carry a link that
 * must reach nobody else: never log a notice whole.
 */
export type Notification = {
  /** One address. */
  to: string
  userId: string
  /** The service's name, as in the authenticator app. */
  issuer: string
  at: UnixSeconds
} & (
  | { kind: 'recovery_link' | 'recovery_requested'; url: string; worksFrom: UnixSeconds; expiresAt: UnixSeconds }
  | { kind: 'backup_code_used'; remaining: number }
  | { kind: 'second_factor_locked'; method: SecondFactorMethod }
  | { kind: 'trusted_device_kept'; name: string | null }
  /** Positive: the clock of the app is ahead. */
  | { kind: 'totp_resynchronized'; clockOffsetSeconds: number }
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

export type NotificationKind = Notification['kind']

/** Sends one mail. Rejects when it could not be handed over. */
export type SendNotification = (notice: Notification) => Promise<void>
