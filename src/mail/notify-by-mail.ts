import { checkOptions, type OptionNames } from '../check-options.ts'
import type { Totp } from '../create-totp.ts'
import type { TotpEvent } from '../events.ts'
import { contextOf } from '../flows/context.ts'
import { tryMail } from '../flows/mail.ts'
import type { Notification, SendNotification } from './notification.ts'

/** The options of {@link notifyByMail}. */
export interface NotifyOptions {
  /** The validated addresses of a user. Each one receives every mail. Required. */
  addressesOf: (userId: string) => Promise<readonly string[]>
  /** Sends one mail within ten seconds; no request waits for it. Required; {@link nodemailerSender} makes one. */
  send: SendNotification
}

const NOTIFY_OPTIONS: OptionNames<NotifyOptions> = { addressesOf: true, send: true }

/** A notice without what is the same in all. */
type Told<N extends Notification = Notification> = N extends Notification
  ? Omit<N, 'to' | 'userId' | 'issuer' | 'at'>
  : never

/**
 * Tells the owner by mail, at every address, what changes the second factor or may be somebody else's doing: whoever
 * reads it and did not do it can act (NIST SP 800-63B-4 §4.6; OWASP ASVS 5.0, 6.3.5 and 6.3.7). Mails go out after the
 * request, to all addresses at once; one that fails or takes longer than ten seconds is announced as `mail.failed`, and
 * its reason goes to `onError`.
 *
 * @example
 * ```ts
 * import { notifyByMail } from 'totp-kit/mail'
 *
 * notifyByMail(totp, {
 *   addressesOf: async (userId) => [`${userId}@example.com`],
 *   send: async ({ kind, to }) => console.log(`${kind} to ${to}`),
 * })
 * ```
 *
 * @throws TypeError for an unknown option
 */
export function notifyByMail(totp: Totp, options: NotifyOptions): void {
  checkOptions(options, NOTIFY_OPTIONS)
  const { addressesOf, send } = options
  const ctx = contextOf(totp)
  const { issuer } = ctx.policy
  const tell = ({ userId, at }: TotpEvent, told: Told) =>
    ctx.afterResponse(async () => {
      const addresses = (await tryMail(ctx, { userId, at }, () => addressesOf(userId))) ?? []
      const sendTo = (to: string) => send({ ...told, to, userId, issuer, at } as Notification)
      await Promise.all(addresses.map((to) => tryMail(ctx, { userId, at }, () => sendTo(to))))
    })
  totp.on('totp.confirmed', (event) => {
    const kind = event.replaced ? 'totp_replaced' : event.added ? 'authenticator_added' : 'totp_enabled'
    tell(event, { kind })
  })
  totp.on('totp.disabled', (event) => tell(event, { kind: 'totp_disabled' }))
  totp.on('authenticator.removed', (event) => tell(event, { kind: 'authenticator_removed' }))
  totp.on('backup_codes.rotated', (event) => tell(event, { kind: 'backup_codes_rotated' }))
  totp.on('backup_code.used', (event) => tell(event, { kind: 'backup_code_used', remaining: event.remaining }))
  totp.on('trusted_device.kept', (event) => tell(event, { kind: 'trusted_device_kept', name: event.name }))
  totp.on('totp.resynchronized', (event) =>
    tell(event, { kind: 'totp_resynchronized', clockOffsetSeconds: event.clockOffsetSeconds }),
  )
  totp.on('backup_codes.viewed', (event) => tell(event, { kind: 'backup_codes_viewed' }))
  // The other refusals are no news: the owner removed the device, or the factors changed.
  totp.on('trusted_device.refused', (event) => {
    if (event.copied) tell(event, { kind: 'trusted_device_copied' })
  })
  totp.on('tokens.refused', (event) => {
    if (event.reused) tell(event, { kind: 'refresh_token_reused' })
  })
  totp.on('totp.failing', (event) => {
    tell(event, { kind: event.method === 'recovery_password' ? 'recovery_failing' : 'second_factor_failing' })
  })
  totp.on('totp.locked', (event) => {
    const { method } = event
    tell(event, method === 'recovery_password' ? { kind: 'recovery_locked' } : { kind: 'second_factor_locked', method })
  })
  totp.on('recovery.confirmed', (event) => tell(event, { kind: 'recovery_confirmed' }))
  totp.on('recovery.canceled', (event) => tell(event, { kind: 'recovery_canceled' }))
}
