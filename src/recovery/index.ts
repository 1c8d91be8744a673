import { checkOptions, type OptionNames } from '../check-options.ts'
import type { UnixSeconds } from '../clock.ts'
import type { Totp } from '../create-totp.ts'
import { tokenSealer } from '../crypto/sealed-token.ts'
import { contextOf } from '../flows/context.ts'
import { cancelRecovery, confirmRecovery, type RecoveryParts, requestRecovery } from '../flows/recovery.ts'
import type { Notification } from '../mail/notification.ts'
import { integerInRange } from '../policy.ts'

/** The options of {@link accountRecovery}. */
export interface RecoveryOptions {
  /**
   * Finds the account of an email address: its user id and the validated address as you store it, or null. Required. The link
   * is sent to that address, never to what was typed (authentik, GHSA-qgqp-xh8r-v73r).
   */
  findAccount: (email: string) => Promise<{ userId: string; email: string } | null>
  /**
   * All validated addresses of a user. Each one receives a mail with a link that cancels the recovery. Default: only the
   * address of `findAccount`.
   */
  addressesOf?: ((userId: string) => Promise<readonly string[]>) | undefined
  /** True when `password` is the user's password. Required. */
  checkPassword: (userId: string, password: string) => Promise<boolean>
  /**
   * Sends one mail within ten seconds; no request waits for it. Required; `nodemailerSender` of `totp-kit/mail` makes one.
   */
  send: (notice: Notification) => Promise<void>
  /**
   * Your page that the link opens, or a function that returns it. Required. The page posts `uid`, `token` and the password to
   * `totp/recovery_confirm/`; `from` and `until` are the Unix seconds between which the link works. They stand after a `#`,
   * so that no server on the way logs them.
   */
  pageUrl: string | (() => string)
  /**
   * How long a link works, in seconds: 60 to 86,400 (NIST SP 800-63B-4 §4.2.1.2: 24 hours by mail). Default 3,600.
   */
  linkValidSeconds?: number | undefined
  /** Seconds from the request until the link works, 0 to 604,800: time for the owner to cancel. Default 0. */
  delaySeconds?: number | undefined
}

const RECOVERY_OPTIONS: OptionNames<RecoveryOptions> = {
  findAccount: true,
  addressesOf: true,
  checkPassword: true,
  send: true,
  pageUrl: true,
  linkValidSeconds: true,
  delaySeconds: true,
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
  checkOptions(options, RECOVERY_OPTIONS)
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
