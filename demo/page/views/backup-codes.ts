import type { KeptCode } from '../api.ts'
import type { App, Occasion, View } from '../app.ts'
import { copyButton } from '../copy-button.ts'
import { el, moment } from '../dom.ts'

interface Given {
  codes: KeptCode[]
  username: string
  occasion: Occasion
}

const FIRST_CODES =
  'Two-factor authentication is on. One thing is left to do: save these codes, for the day your phone is lost or broken.'

const WORDS = {
  required: {
    intro: FIRST_CODES,
    done: 'I have saved them',
    notice: 'Two-factor authentication is on. Log in again, now with a code.',
  },
  'set-up': {
    intro: FIRST_CODES,
    done: 'I have saved them',
    notice: 'Two-factor authentication is on.',
  },
  rotated: {
    intro: 'These codes replace the old ones, which no longer work.',
    done: 'I have saved them',
    notice: 'You have new backup codes. The old ones no longer work.',
  },
  viewed: {
    intro: 'These are the codes that you have. A code that was used does not work again.',
    done: 'Done',
    notice: '',
  },
}

export function backupCodesView(app: App, { codes, username, occasion }: Given): View {
  const { intro, done, notice } = WORDS[occasion]
  const heading = el('h1', { tabindex: '-1' }, 'Your backup codes')
  const list = el('ol', { class: 'codes', 'data-backup-codes': true }, ...codes.map(codeItem))
  const leave = () => (occasion === 'required' ? app.toLogin({ notice, username }) : app.toAccount({ notice }))
  const usable = codes.filter(({ used_at }) => used_at === null).map(({ code }) => code)

  return {
    name: 'backup-codes',
    title: 'Your backup codes',
    content: [
      el(
        'section',
        { class: 'card' },
        heading,
        el('p', { class: 'unprinted' }, intro),
        el(
          'p',
          { class: 'printed' },
          `Backup codes of ${username} for totp-kit demo (${location.host}). Each works once.`,
        ),
        list,
        el(
          'div',
          { class: 'actions' },
          copyButton('copy-codes', 'Copy', usable.join('\n'), list),
          el(
            'button',
            { type: 'button', 'data-action': 'download-codes', onclick: () => download(asText(usable, username)) },
            'Download',
          ),
          el('button', { type: 'button', 'data-action': 'print-codes', onclick: () => print() }, 'Print'),
        ),
        el(
          'p',
          { class: 'unprinted' },
          'Each code works once, in place of a code from the app. Keep them where you find them without your phone: in a password manager, or on paper in a safe place.',
        ),
        el(
          'div',
          { class: 'actions' },
          el('button', { type: 'button', class: 'primary', 'data-action': 'saved', onclick: leave }, done),
        ),
      ),
    ],
    focus: heading,
  }
}

function codeItem({ code, used_at }: KeptCode): HTMLElement {
  if (used_at === null) return el('li', {}, el('code', {}, code))
  return el('li', { class: 'used' }, el('s', {}, el('code', {}, code)), ' ', el('small', {}, 'used ', moment(used_at)))
}

function asText(codes: string[], username: string): string {
  return [
    `Backup codes of ${username} for totp-kit demo (${location.host})`,
    'Each works once.',
    '',
    ...codes,
    '',
  ].join('\r\n')
}

function download(text: string): void {
  const address = URL.createObjectURL(new Blob([text], { type: 'text/plain' }))
  el('a', { href: address, download: 'totp-kit-backup-codes.txt' }).click()
  // The browser reads the blob after the click; a moment later it has it.
  setTimeout(() => URL.revokeObjectURL(address), 10_000)
}
