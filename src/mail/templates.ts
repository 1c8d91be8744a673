import type { UnixSeconds } from '../clock.ts'
import type { Notification, NotificationKind } from './notification.ts'

/** The text of a mail. */
export interface Mail {
  /** One line; line breaks in it are removed. */
  subject: string
  /** The mail as plain text. */
  text: string
  /** The mail as HTML. Default: the mail has plain text only. */
  html?: string | undefined
}

/** Your own texts by kind of notification. A template receives the values as they are: escape them in HTML. */
export type MailTemplates = {
  [Kind in NotificationKind]?: ((notice: Extract<Notification, { kind: Kind }>) => Mail) | undefined
}

/** What a mail says: a heading, paragraphs, and a link where there is one to follow. */
interface Letter {
  subject: string
  paragraphs: readonly string[]
  link?: { label: string; url: string }
  /** Said after the link. */
  after?: readonly string[]
}

/** The mail of a notice in our own words: the same as text and as HTML. */
export function defaultMail(notice: Notification): Mail {
  const { subject, paragraphs, link, after = [] } = letterOf(notice)
  const text = [...paragraphs, ...(link ? [`${link.label}:\n${link.url}`] : []), ...after].join('\n\n')
  const title = `${notice.issuer}: ${subject}`
  const html = [
    '<!doctype html>',
    `<html lang="en"><title>${escapeHtml(title)}</title>`,
    ...paragraphs.map(paragraph),
    ...(link ? [`<p><a href="${escapeHtml(link.url)}">${escapeHtml(link.label)}</a></p>`, paragraph(link.url)] : []),
    ...after.map(paragraph),
    '</html>',
  ].join('\n')
  return { subject: title, text: `${text}\n`, html: `${html}\n` }
}

const NOT_YOU = 'If this was not you, log in, change your password, and check your two-factor authentication settings.'
/** Whoever follows a recovery link has read the owner's email. */
const NOT_YOU_BY_LINK =
  'If this was not you, someone has access to your email and knows your account password. Change both passwords now.'
const READS_YOUR_EMAIL =
  'If this was not you, someone has access to your email. Secure your email account now. ' +
  'Two-factor authentication is still on.'
const PASSWORD_IS_KNOWN = 'If this was not you, someone knows your password. Change it now.'
const TO_BE_SAFE = 'To be safe, change your password, and check your two-factor authentication settings.'
const NOTHING_WITHOUT_PASSWORD = 'Nothing changes without your password.'

function letterOf(notice: Notification): Letter {
  const account = `your ${notice.issuer} account`
  const at = moment(notice.at)
  switch (notice.kind) {
    case 'recovery_link': {
      const until = moment(notice.expiresAt)
      return {
        subject: 'Turn off two-factor authentication',
        paragraphs: [
          `On ${at}, someone asked to turn off two-factor authentication for ${account}. ` +
            'If this was you, open the link below. You will also need your password.',
          notice.worksFrom > notice.at
            ? `You can use the link once, from ${moment(notice.worksFrom)} until ${until}.`
            : `You can use the link once, until ${until}.`,
        ],
        link: { label: 'Turn off two-factor authentication, or cancel the request', url: notice.url },
        after: [`If this was not you, open the link and cancel the request. ${NOTHING_WITHOUT_PASSWORD}`],
      }
    }
    case 'recovery_requested':
      return {
        subject: 'Request to turn off two-factor authentication',
        paragraphs: [
          `On ${at}, someone asked to turn off two-factor authentication for ${account}. ` +
            'We sent a recovery link to another of your email addresses.',
          ...(notice.worksFrom > notice.at ? [`That link works from ${moment(notice.worksFrom)}.`] : []),
          'If this was you, you do not have to do anything. ' +
            `If this was not you, cancel the request before ${moment(notice.expiresAt)}:`,
        ],
        link: { label: 'This was not me. Cancel the request', url: notice.url },
        after: [NOTHING_WITHOUT_PASSWORD],
      }
    case 'recovery_confirmed':
      return {
        subject: 'Two-factor authentication is off',
        paragraphs: [
          `Two-factor authentication was turned off for ${account} on ${at}, with a recovery link and your password.`,
          NOT_YOU_BY_LINK,
        ],
      }
    case 'recovery_canceled':
      return {
        subject: 'Recovery request canceled',
        paragraphs: [
          `The request to turn off two-factor authentication for ${account} was canceled on ${at}.`,
          'If this was not you, someone has access to your email. Secure your email account. If you still need a link, request a new one.',
        ],
      }
    case 'totp_enabled':
      return told('Two-factor authentication is on', `Two-factor authentication was turned on for ${account} on ${at}.`)
    case 'totp_replaced':
      return told(
        'Your authenticator app was replaced',
        `The authenticator app for ${account} was replaced on ${at}. Codes from the old app no longer work.`,
      )
    case 'authenticator_added':
      return told('An authenticator app was added', `An authenticator app was added to ${account} on ${at}.`)
    case 'authenticator_removed':
      return told('An authenticator app was removed', `An authenticator app was removed from ${account} on ${at}.`)
    case 'totp_disabled':
      return told(
        'Two-factor authentication is off',
        `Two-factor authentication was turned off for ${account} on ${at}.`,
      )
    case 'backup_codes_rotated':
      return told(
        'New backup codes',
        `New backup codes were created for ${account} on ${at}. The old ones no longer work.`,
      )
    case 'backup_codes_viewed':
      return told('Your backup codes were viewed', `The backup codes of ${account} were viewed on ${at}.`)
    case 'totp_resynchronized': {
      const { clockOffsetSeconds: offset } = notice
      const off = `${Math.abs(offset)} seconds ${offset > 0 ? 'fast' : 'slow'}`
      return told(
        'The clock of your authenticator app is wrong',
        `A code for ${account} was accepted on ${at}. The clock of your authenticator app is ${off}. ` +
          'Turn on automatic date and time on your phone.',
      )
    }
    case 'trusted_device_copied':
      return told(
        'A device is no longer trusted',
        `A trusted device was removed from ${account} on ${at}, because someone may have copied the data that keeps it trusted. ` +
          'The next login on this device requires a code.',
        TO_BE_SAFE,
      )
    case 'refresh_token_reused':
      return told(
        'You were logged out on a device',
        `On ${at}, you were logged out of ${account} on one device, because someone may have copied the login data ` +
          'of that device. To continue there, log in again.',
        TO_BE_SAFE,
      )
    case 'backup_code_used':
      return told(
        'A backup code was used',
        `A backup code was used for ${account} on ${at}. ${codesLeft(notice.remaining)}`,
      )
    case 'trusted_device_kept': {
      const device = notice.name === null ? 'A device' : `The device "${oneLine(notice.name)}"`
      return told(
        'New trusted device',
        `${device} was added to the trusted devices of ${account} on ${at}. ` +
          'For a limited time, you can log in on this device without a code.',
      )
    }
    case 'second_factor_failing':
      return {
        subject: 'Incorrect codes after your password',
        paragraphs: [
          `Someone entered the correct password for ${account}, and then several incorrect codes. ` +
            `The last attempt was on ${at}.`,
          PASSWORD_IS_KNOWN,
        ],
      }
    case 'second_factor_locked': {
      const [locked, other] =
        notice.method === 'totp'
          ? ['Codes from your authenticator app', 'a backup code']
          : ['Backup codes', 'a code from your authenticator app']
      return {
        subject: 'Codes are locked',
        paragraphs: [
          `${locked} are locked for ${account} after too many incorrect attempts. The last attempt was on ${at}. ` +
            `Log in with ${other}, or contact support.`,
          PASSWORD_IS_KNOWN,
        ],
      }
    }
    case 'recovery_failing':
      return {
        subject: 'Incorrect passwords with a recovery link',
        paragraphs: [
          `Someone opened a link to turn off two-factor authentication for ${account}, and entered several incorrect ` +
            `passwords. The last attempt was on ${at}.`,
          READS_YOUR_EMAIL,
        ],
      }
    case 'recovery_locked':
      return {
        subject: 'Recovery is locked',
        paragraphs: [
          `Recovery for ${account} is locked after too many incorrect passwords. The last attempt was on ${at}. ` +
            'Change your password, or contact support. After that, you can use a new link.',
          READS_YOUR_EMAIL,
        ],
      }
  }
}

function told(subject: string, what: string, advice = NOT_YOU): Letter {
  return { subject, paragraphs: [what, advice] }
}

function codesLeft(count: number): string {
  if (count === 0) return 'You have no backup codes left. Create new ones.'
  return count === 1 ? 'You have 1 backup code left.' : `You have ${count} backup codes left.`
}

/** `November 24, 2026 at 09:30 UTC`: the reader may be anywhere. */
function moment(at: UnixSeconds): string {
  const style = { dateStyle: 'long', timeStyle: 'short', hourCycle: 'h23', timeZone: 'UTC' } as const
  return `${new Intl.DateTimeFormat('en-US', style).format(new Date(at * 1000))} UTC`
}

function paragraph(text: string): string {
  return `<p>${escapeHtml(text)}</p>`
}

/** Lines of its own would let a name pass for words of ours. */
export function oneLine(text: string): string {
  return text.replace(/[\p{Cc}\p{Zl}\p{Zp}]+/gu, ' ')
}

const ENTITIES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' }

/** Names that users choose stand in mails: they must not become markup. */
function escapeHtml(text: string): string {
  return text.replace(/[&<>"]/g, (character) => ENTITIES[character] as string)
}
