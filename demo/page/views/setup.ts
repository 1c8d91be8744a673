import type { Enrolment } from '../api.ts'
import type { App, View } from '../app.ts'
import { copyButton } from '../copy-button.ts'
import { el, readSvg } from '../dom.ts'
import { field, form } from '../form.ts'
import { Refusal } from '../refusal.ts'

interface Given {
  enrolment: Enrolment
  username: string
  /** A phone is in use already, and keeps working until the new one is confirmed. */
  replaces: boolean
}

export function setupView(app: App, { enrolment, username, replaces }: Given): View {
  const title = replaces ? 'Set up a new phone' : 'Set up two-factor authentication'
  const heading = el('h1', { tabindex: '-1' }, title)
  const key = el('code', { class: 'secret', 'data-secret': true }, inFours(enrolment.secret))
  const code = field({
    name: 'code',
    label: 'Code from your app',
    hint: 'The six digits that the app shows now.',
    attributes: { class: 'code', inputmode: 'numeric', autocomplete: 'one-time-code', enterkeyhint: 'done' },
    check: (value) => (isSixDigits(value) ? null : 'A code from the app has six digits. Check what you typed.'),
  })

  async function submit(): Promise<void> {
    try {
      const { backup_codes } = await app.api.confirm(code.input.value.trim())
      if (backup_codes === null)
        return app.toAccount({ notice: 'The new phone is set up. Your backup codes stay as they are.' })
      const codes = backup_codes.map((each) => ({ code: each, used_at: null }))
      app.toBackupCodes({ codes, username, occasion: 'set-up' })
    } catch (error) {
      if (!isGone(error)) throw error
      app.toAccount({
        notice: 'The set-up was not finished within 15 minutes, so nothing was changed. Start it again.',
      })
    }
  }

  return {
    name: 'setup',
    title,
    content: [
      el(
        'section',
        { class: 'card' },
        heading,
        replaces
          ? el('p', {}, 'The phone that you use now keeps working until the new one is confirmed.')
          : el(
              'p',
              {},
              'You need an authenticator app on your phone, such as Aegis, Google Authenticator, 2FAS or 1Password.',
            ),
        el(
          'ol',
          { class: 'steps' },
          el(
            'li',
            {},
            el('h2', {}, 'Add the account to your app'),
            el(
              'div',
              { class: 'enrol' },
              el('div', { class: 'qr', 'data-qr': true }, readSvg(enrolment.svg)),
              el(
                'div',
                { class: 'by-hand' },
                el('p', {}, 'Scan this picture with the app.'),
                el('p', {}, 'If you cannot scan it, type this key into the app instead:'),
                key,
                copyButton('copy-secret', 'Copy the key', enrolment.secret, key),
                el(
                  'p',
                  {},
                  'If the app is on this device: ',
                  el('a', { href: enrolment.uri, 'data-action': 'open-app' }, 'open it there'),
                  '.',
                ),
              ),
            ),
          ),
          el(
            'li',
            {},
            el('h2', {}, 'Type the code that it shows'),
            form({
              action: 'confirm',
              label: 'Confirm',
              busyLabel: 'Checking…',
              fields: [code],
              submit,
              beside: [
                el('button', { type: 'button', 'data-action': 'cancel', onclick: () => app.toAccount() }, 'Cancel'),
              ],
            }),
          ),
        ),
      ),
    ],
    focus: heading,
  }
}

function inFours(secret: string): string {
  return secret.replace(/(.{4})(?=.)/g, '$1 ')
}

function isSixDigits(typed: string): boolean {
  return /^\d{6}$/.test(typed.normalize('NFKC').replace(/[\s\p{Pd}]/gu, ''))
}

/** The pending set-up has expired: `totp_already_enabled` is how that looks beside a phone that works. */
function isGone(error: unknown): boolean {
  return error instanceof Refusal && (error.code === 'totp_not_set_up' || error.code === 'totp_already_enabled')
}
