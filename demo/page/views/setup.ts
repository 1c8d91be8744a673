import type { App, Setup, View } from '../app.ts'
import { copyButton } from '../copy-button.ts'
import { el, readSvg } from '../dom.ts'
import { field, form } from '../form.ts'
import { Refusal } from '../refusal.ts'

export function setupView(app: App, { enrolment, username, live, enrolmentToken }: Setup): View {
  const isFurther = live.length > 0
  const title = isFurther ? 'Set up another phone or app' : 'Set up two-factor authentication'
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
      const typed = code.input.value.trim()
      const { backup_codes } = enrolmentToken
        ? await app.api.confirmBeforeLogIn(enrolmentToken, typed)
        : await app.api.confirm(typed)
      if (backup_codes === null) return app.toAccount({ notice: await howItStands() })
      const codes = backup_codes.map((each) => ({ code: each, used_at: null }))
      app.toBackupCodes({ codes, username, occasion: enrolmentToken ? 'required' : 'set-up' })
    } catch (error) {
      if (!isGone(error)) throw error
      leave('The set-up was not finished within 15 minutes, so nothing was changed. Start it again.')
    }
  }

  /** The confirmation says the same whether the new one stands beside the others or took a place; the status tells. */
  async function howItStands(): Promise<string> {
    const codesStay = 'Your backup codes stay as they are.'
    const status = await app.api.status().catch(() => null)
    if (status === null) return `The new one is set up. ${codesStay}`
    const replaced = live.some((id) => status.authenticators.every((each) => each.id !== id))
    if (replaced) return `The new phone is set up; the codes of the old one no longer work. ${codesStay}`
    return `The new one is set up, and the other keeps working. ${codesStay}`
  }

  function leave(notice = ''): void {
    if (enrolmentToken === null) app.toAccount({ notice })
    else app.toLogin({ notice, username })
  }

  return {
    name: 'setup',
    title,
    content: [
      el(
        'section',
        { class: 'card' },
        heading,
        isFurther
          ? el(
              'p',
              {},
              'What you use now keeps working until the new one is confirmed. Trusted devices then ask for a code again.',
            )
          : el(
              'p',
              {},
              enrolmentToken ? 'Your account needs a second factor before you can log in. ' : '',
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
              beside: [el('button', { type: 'button', 'data-action': 'cancel', onclick: () => leave() }, 'Cancel')],
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

/** The set-up has expired: the first is how that looks beside a phone that works, the last before the log-in. */
const GONE = new Set(['totp_already_enabled', 'totp_not_set_up', 'unauthenticated'])

function isGone(error: unknown): boolean {
  return error instanceof Refusal && GONE.has(error.code)
}
