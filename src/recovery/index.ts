import type { UnixSeconds } from '../clock.ts'
import type { Totp } from '../create-totp.ts'
import { tokenSealer } from '../crypto/sealed-token.ts'
import { contextOf } from '../flows/context.ts'
import { cancelRecovery, confirmRecovery, type RecoveryParts, requestRecovery } from '../flows/recovery.ts'
import type { Notification } from '../mail/notification.ts'
import { integerInRange } from '../policy.ts'

export interface RecoveryOptions {
  /**
   * The account that an e-mail address belongs to, with the address as you keep it, validated; null for none. The link
   * goes to that one, never to what was typed (authentik, GHSA-qgqp-xh8r-v73r).
   */
  findAccount: (email: string) => Promise<{ userId: string; email: string } | null>
  /** All validated addresses of a user: each is told, and can stop the recovery. Default: the one of `findAccount`. */
  addressesOf?: (userId: string) => Promise<readonly string[]>
  /** Whether this is the user's password. */
  checkPassword: (userId: string, password: string) => Promise<boolean>
  /** Sends one mail; `nodemailerSender` of `totp-kit/mail` makes one. No request waits for it; it has ten seconds. */
  send: (notice: Notification) => Promise<void>
  /**
   * The page of yours that a link opens: it posts `uid`, `token` and the password to `totp/recovery_confirm/`; `from` and
   * `until` say in Unix seconds when the link works. They are
   * put behind a `#`, so that they reach no server's log on the way. A function where it is not known at the start.
   */
  pageUrl: string | (() => string)
  /** How long a link is good once it works: 60 to 86,400 (NIST SP 800-63B-4 §4.2.1.2: 24 hours by mail). Default 3,600. */
  linkValidSeconds?: number
  /** From the request until the link works, so that the owner can stop it: 0 to 604,800. Default 0. */
  delaySeconds?: number
}

/** Recovery for users who lost their device: a link by mail and the password switch 2FA off. `now`: the time of the request; default: the clock. */
export interface Recovery {
  /** Says nothing of the address; mails come later. @throws TotpError `unavailable` */
  requestRecovery(email: string, now?: UnixSeconds): Promise<void>
  /** @throws TotpError `recovery_link_invalid`, `invalid_credentials`, `too_many_attempts`, `second_factor_locked` */
  confirmRecovery(link: { uid: string; token: string; password: string }, now?: UnixSeconds): Promise<void>
  /** "This wasn't me": the link dies. @throws TotpError `recovery_link_invalid` */
  cancelRecovery(link: { uid: string; token: string }, now?: UnixSeconds): Promise<void>
}

/**
 * The recovery module; hand it to an adapter as `recovery`.
 *
 * @example
 * ```ts
 * import { accountRecovery } from 'totp-kit/recovery'
 *
 * const recovery = accountRecovery(totp, {
 *   findAccount: async (email) => (email === 'ada@example.com' ? { userId: '42', email } : null),
 *   checkPassword: async (_userId, password) => password === 'correct horse',
 *   send: async ({ kind, to }) => console.log(`${kind} to ${to}`),
 *   pageUrl: 'https://app.example/recover',
 * })
 * ```
 *
 * @throws TypeError or RangeError for an option
 */
export function accountRecovery(totp: Totp, options: RecoveryOptions): Recovery {
  const ctx = contextOf(totp)
  const linkValidSeconds = integerInRange('linkValidSeconds', options.linkValidSeconds ?? 3600, 60, 86_400)
  const delaySeconds = integerInRange('delaySeconds', options.delaySeconds ?? 0, 0, 604_800)
  const { pageUrl } = options
  if (typeof pageUrl === 'string' && !URL.canParse(pageUrl)) throw new TypeError('pageUrl must be a valid URL')
  const lifetime = delaySeconds + linkValidSeconds
  const { issuer } = ctx.policy
  const parts: RecoveryParts = {
    tokens: tokenSealer(ctx.keyring, { kind: 'recovery', issuer }, lifetime),
    cancelTokens: tokenSealer(ctx.keyring, { kind: 'recovery-cancel', issuer }, lifetime),
    delaySeconds,
    findAccount: options.findAccount,
    addressesOf: options.addressesOf ?? (async () => []),
    checkPassword: options.checkPassword,
    sendLink({ to, userId, uid, token, canConfirm, at, worksFrom, expiresAt }) {
      const url = new URL(typeof pageUrl === 'string' ? pageUrl : pageUrl())
      url.hash = new URLSearchParams({
        ...(canConfirm ? {} : { cancel: '1' }),
        uid,
        token,
        from: String(worksFrom),
        until: String(expiresAt),
      }).toString()
      const kind = canConfirm ? 'recovery_link' : 'recovery_requested'
      return options.send({ kind, to, userId, issuer, at, url: url.href, worksFrom, expiresAt })
    },
  }
  return {
    requestRecovery: (email, now = ctx.clock()) => requestRecovery(ctx, parts, email, now),
    confirmRecovery: (link, now = ctx.clock()) => confirmRecovery(ctx, parts, link, now),
    cancelRecovery: (link, now = ctx.clock()) => cancelRecovery(ctx, parts, link, now),
  }
}
