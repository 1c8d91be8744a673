import { randomUUID } from 'node:crypto'
import { mkdir, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createTransport } from 'nodemailer'
import { type MailTransport, nodemailerSender, type SendNotification } from 'totp-kit/mail'
import type { Settings } from './settings.ts'

/** How the demo sends mail: by SMTP where there is a server, else each mail is a file that a mail program opens. */
export function mailSender({
  smtpUrl,
  outbox,
  issuer,
}: Pick<Settings, 'smtpUrl' | 'outbox' | 'issuer'>): SendNotification {
  const transport = smtpUrl === null ? outboxTransport(outbox) : smtpTransport(smtpUrl)
  return nodemailerSender(transport, { from: `"${issuer.replace(/["\\]/g, '')}" <no-reply@localhost>` })
}

/** Seconds, not the minutes that are the default: nobody waits for a mail of a server that is gone. */
function smtpTransport(url: string): MailTransport {
  return createTransport({ url, connectionTimeout: 5000, greetingTimeout: 5000, socketTimeout: 10_000 })
}

function outboxTransport(folder: string): MailTransport {
  const composer = createTransport({ streamTransport: true, buffer: true })
  return {
    async sendMail(mail) {
      const { message } = await composer.sendMail(mail)
      await mkdir(folder, { recursive: true })
      const path = join(folder, `${Date.now()}-${randomUUID()}`)
      // A recovery link stands in it: for the owner's eyes. Whoever watches the folder finds it whole or not at all.
      await writeFile(`${path}.part`, message as Buffer, { mode: 0o600, flag: 'wx' })
      await rename(`${path}.part`, `${path}.eml`)
    },
  }
}
