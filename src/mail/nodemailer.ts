import { checkOptions, type OptionNames } from '../check-options.ts'
import type { Notification, SendNotification } from './notification.ts'
import { defaultMail, type Mail, type MailTemplates, oneLine } from './templates.ts'

/** What is needed of a transport of `nodemailer`. */
export interface MailTransport {
  /** Sends one mail; rejects when it could not be handed over. */
  sendMail(mail: {
    from: string
    to: { name: string; address: string }
    subject: string
    text: string
    html?: string
    headers: Record<string, string>
  }): Promise<unknown>
}

/** The options of {@link nodemailerSender}. */
export interface SenderOptions {
  /** The sender of the mails: `Acme <security@acme.example>`. Required. */
  from: string
  /** Your own texts, by kind of notification. Default: the texts of totp-kit, for each kind that is not given. */
  templates?: MailTemplates | undefined
}

const SENDER_OPTIONS: OptionNames<SenderOptions> = {
  from: true,
  templates: {
    recovery_link: true,
    recovery_requested: true,
    backup_code_used: true,
    second_factor_locked: true,
    trusted_device_kept: true,
    totp_resynchronized: true,
    totp_enabled: true,
    totp_replaced: true,
    authenticator_added: true,
    authenticator_removed: true,
    totp_disabled: true,
    backup_codes_rotated: true,
    backup_codes_viewed: true,
    trusted_device_copied: true,
    refresh_token_reused: true,
    second_factor_failing: true,
    recovery_failing: true,
    recovery_locked: true,
    recovery_confirmed: true,
    recovery_canceled: true,
  },
}

/**
 * Sends notices through a transport of `nodemailer`. One attempt a mail: give the transport timeouts that suit you, and
 * a pool or a queue where mail must survive an outage.
 *
 * @example
 * ```ts
 * import { nodemailerSender } from 'totp-kit/mail'
 *
 * declare const transport: import('totp-kit/mail').MailTransport // nodemailer.createTransport('smtps://…')
 * const send = nodemailerSender(transport, {
 *   from: 'Acme <security@acme.example>',
 *   templates: {
 *     totp_enabled: ({ issuer }) => ({ subject: `Welcome to 2FA at ${issuer}`, text: 'Well done.' }),
 *   },
 * })
 * ```
 */
export function nodemailerSender(transport: MailTransport, options: SenderOptions): SendNotification {
  checkOptions(options, SENDER_OPTIONS)
  const { from, templates = {} } = options
  return async (notice) => {
    const template = templates[notice.kind] as ((notice: Notification) => Mail) | undefined
    const { subject, text, html } = (template ?? defaultMail)(notice)
    const sent = transport.sendMail({
      from,
      // As one address, whatever stands in it: a comma must not make it two.
      to: { name: '', address: notice.to },
      subject: oneLine(subject),
      text,
      ...(html === undefined ? {} : { html }),
      // RFC 3834 §5: nobody's holiday notice answers it.
      headers: { 'Auto-Submitted': 'auto-generated' },
    })
    await ('url' in notice ? sent.catch(failWithoutWords) : sent)
  }
}

/** An SMTP error may quote the message, including the link, so only its codes are kept. */
function failWithoutWords(error: unknown): never {
  const { code, command, responseCode } = error as { code?: unknown; command?: unknown; responseCode?: unknown }
  const codes = [code, command, responseCode].filter((part) => part !== undefined)
  throw new Error(`an email with a link could not be sent: ${codes.join(' ')}`)
}
