import type { SendNotice } from './notice.ts'
import type { MailTemplates } from './templates.ts'

/** What is needed of a transport of `nodemailer`. */
export interface MailTransport {
  sendMail(mail: { from: string; to: string; subject: string; text: string; html?: string }): Promise<unknown>
}

export function nodemailerSender(
  _transport: MailTransport,
  _options: { from: string; templates?: MailTemplates },
): SendNotice {
  throw new Error('TODO')
}
