import type { UnixSeconds } from '../clock.ts'
import type { Notice, NoticeKind } from './notice.ts'

/** A mail's words. Without `html` the mail has text only. */
export interface Mail {
  subject: string
  text: string
  html?: string
}

/** Words of your own for some kinds of notice; each gets the notice of its kind, values as they are, unescaped. */
export type MailTemplates = { [Kind in NoticeKind]?: (notice: Extract<Notice, { kind: Kind }>) => Mail }

/** What a mail says: a heading, paragraphs, and a link where there is one to follow. */
interface Letter {
  subject: string
  paragraphs: readonly string[]
  link?: { label: string; url: string }
  /** Said after the link. */
  after?: readonly string[]
}

/** The mail of a notice in our own words: the same as text and as HTML. */
export function defaultMail(notice: Notice): Mail {
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

const NOT_YOU = 'If this was not you, log in, change your password and check your two-factor authentication.'
/** Who follows a recovery link has read the owner's mail. */
const NOT_YOU_BY_LINK =
  'If this was not you, somebody else reads your mail and knows your password: change both passwords now.'
const READS_YOUR_MAIL =
  'If this was not you, somebody else reads your mail: secure your mailbox now. Your password has kept them out.'
const SOMEBODY_KNOWS =
  'If this was not you, somebody else knows your password: change it now. Your second factor has kept them out.'

function letterOf(notice: Notice): Letter {
  const { issuer } = notice
  const at = moment(notice.at)
  switch (notice.kind) {
    case 'recovery_link':
      return {
        subject: 'switch two-factor authentication off',
        paragraphs: [
          `Somebody asked on ${at} to switch two-factor authentication off for your account at ${issuer}, because the ` +
            'device with the codes is lost. If it was you, follow the link; you will need your password.',
          ...(notice.worksFrom > notice.at ? [`The link works from ${moment(notice.worksFrom)}.`] : []),
          `It works once, until ${moment(notice.expiresAt)}.`,
        ],
        link: { label: 'Switch off or cancel', url: notice.url },
        after: ['If it was not you, follow the link and choose to cancel. Without your password nothing changes.'],
      }
    case 'recovery_requested':
      return {
        subject: 'somebody asked to switch two-factor authentication off',
        paragraphs: [
          `Somebody asked on ${at} to switch two-factor authentication off for your account at ${issuer}. A link for ` +
            'that was sent to another address of yours.',
          ...(notice.worksFrom > notice.at ? [`That link works from ${moment(notice.worksFrom)}.`] : []),
          `If it was you, there is nothing to do here. If it was not you, stop it before ${moment(notice.expiresAt)}:`,
        ],
        link: { label: 'This was not me: cancel', url: notice.url },
        after: ['Without your password nothing changes.'],
      }
    case 'recovery_confirmed':
      return {
        subject: 'two-factor authentication is off',
        paragraphs: [
          `Two-factor authentication of your account at ${issuer} was switched off on ${at}, with a recovery link and your ` +
            'password.',
          NOT_YOU_BY_LINK,
        ],
      }
    case 'recovery_cancelled':
      return {
        subject: 'the recovery was cancelled',
        paragraphs: [
          `The request to switch two-factor authentication off at ${issuer} was cancelled on ${at}.`,
          'If this was not you, somebody else reads your mail: secure your mailbox, then ask for a new link.',
        ],
      }
    case 'totp_enabled':
      return told('two-factor authentication is on', `was switched on on ${at}`, issuer)
    case 'totp_replaced':
      return told('your authenticator was replaced', `has a new authenticator app since ${at}`, issuer)
    case 'authenticator_added':
      return told('an authenticator was added', `has a further authenticator app since ${at}`, issuer)
    case 'authenticator_removed':
      return told('an authenticator was removed', `has one authenticator app less since ${at}`, issuer)
    case 'totp_disabled':
      return told('two-factor authentication is off', `was switched off on ${at}`, issuer)
    case 'backup_codes_rotated':
      return told('new backup codes', `has new backup codes since ${at}; the old ones are dead`, issuer)
    case 'backup_codes_viewed':
      return {
        subject: 'your backup codes were viewed',
        paragraphs: [`The backup codes of your account at ${issuer} were viewed on ${at}.`, NOT_YOU],
      }
    case 'totp_resynchronised': {
      const { clockOffsetSeconds: offset } = notice
      const off = `${Math.abs(offset)} seconds ${offset > 0 ? 'ahead' : 'behind'}`
      return {
        subject: 'the clock of your authenticator app is wrong',
        paragraphs: [
          `Your account at ${issuer} accepted a code on ${at} from an authenticator app whose clock is ${off}. Set the ` +
            'clock of your phone to automatic time.',
          NOT_YOU,
        ],
      }
    }
    case 'trusted_device_copied':
      return {
        subject: 'a device is no longer trusted',
        paragraphs: [
          `A trusted device of your account at ${issuer} was removed on ${at}, because its token was used a second time. ` +
            'Somebody may have copied the token. The next login on this device needs a code.',
          NOT_YOU,
        ],
      }
    case 'refresh_token_reused':
      return {
        subject: 'a session was ended',
        paragraphs: [
          `A session of your account at ${issuer} was ended on ${at}, because one of its old tokens was used again. ` +
            'Somebody may have copied the token. Log in again to continue.',
          NOT_YOU,
        ],
      }
    case 'backup_code_used':
      return {
        subject: 'a backup code was used',
        paragraphs: [
          `A backup code was used for your account at ${issuer} on ${at}. Left: ${notice.remaining}.`,
          NOT_YOU,
        ],
      }
    case 'trusted_device_kept': {
      const name = notice.name === null ? 'A device' : `The device "${oneLine(notice.name)}"`
      return {
        subject: 'a device is trusted',
        paragraphs: [`${name} is not asked for a code at ${issuer} since ${at}, for some days.`, NOT_YOU],
      }
    }
    case 'second_factor_failing':
      return {
        subject: 'wrong codes after your password',
        paragraphs: [
          `Somebody entered your right password at ${issuer}, and several wrong codes after it, until ${at}.`,
          SOMEBODY_KNOWS,
        ],
      }
    case 'second_factor_locked':
      return {
        subject: 'codes are locked',
        paragraphs: [
          `So many wrong codes were entered for your account at ${issuer} until ${at} that none is taken any more. ` +
            'Log in with a backup code, or ask support.',
          SOMEBODY_KNOWS,
        ],
      }
    case 'recovery_failing':
      return {
        subject: 'wrong passwords with a recovery link',
        paragraphs: [
          `Somebody opened a link to switch two-factor authentication off for your account at ${issuer}, and entered ` +
            `several wrong passwords, until ${at}.`,
          READS_YOUR_MAIL,
        ],
      }
    case 'recovery_locked':
      return {
        subject: 'recovery is locked',
        paragraphs: [
          `So many wrong passwords were entered with links to switch two-factor authentication off for your account at ` +
            `${issuer} until ${at} that no link is taken any more. Cancel by the last link, change your password, or ` +
            'ask support; after that a new link works.',
          READS_YOUR_MAIL,
        ],
      }
  }
}

function told(subject: string, what: string, issuer: string): Letter {
  return { subject, paragraphs: [`Two-factor authentication of your account at ${issuer} ${what}.`, NOT_YOU] }
}

/** `24 November 2026, 09:30 UTC`: who reads it may be anywhere. */
function moment(at: UnixSeconds): string {
  const format = new Intl.DateTimeFormat('en-GB', { dateStyle: 'long', timeStyle: 'short', timeZone: 'UTC' })
  return `${format.format(new Date(at * 1000)).replace(' at ', ', ')} UTC`
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
