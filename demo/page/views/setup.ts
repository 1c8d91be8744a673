import type { App, Setup, View } from '../app.ts'
import { codeField } from '../code-field.ts'
import { copyButton } from '../copy-button.ts'
import { withStepUp } from '../dialogs.ts'
import { clockTime, el, linkButton, svgImage } from '../dom.ts'
import { errorRegion, form } from '../form.ts'
import { Refusal } from '../refusal.ts'
import { forgetUnfinished, keepUnfinished } from '../unfinished.ts'
import { SETUP_OVER } from '../wording.ts'

export function setupView(app: App, given: Setup): View {
  const { enrollment, username, name, isFurther, enrollmentToken } = given
  const { digits, replaces, issuer, account_name: accountName } = enrollment
  const expiresAtMs = Date.now() + enrollment.expires_in * 1000
  keepUnfinished({ kind: 'setup', username, name, enrollmentToken, isFurther, expiresAtMs })

  const title = titleOf(given)
  const heading = el('h1', { tabindex: '-1' }, title)
  const replaced = nameOf(replaces)
  const code = codeField({ digits, acceptsBackupCode: false, sendsItself: replaces === null })

  async function submit(): Promise<void> {
    try {
      const { backup_codes } = await app.api.confirm(code.code(), enrollmentToken)
      if (backup_codes === null) return app.toAccount({ notice: isAdded(replaced) })
      const codes = backup_codes.map((each) => ({ code: each, used_at: null }))
      app.toBackupCodes({ codes, username, occasion: 'set-up' })
    } catch (error) {
      if (!isGone(error)) throw error
      leave(SETUP_OVER)
    }
  }

  function leave(notice = ''): void {
    forgetUnfinished()
    if (enrollmentToken === null) app.toAccount({ notice })
    else app.toLogin({ notice, username })
  }

  const confirming = form({
    action: 'confirm',
    label: replaces === null ? 'Confirm' : 'Confirm and replace',
    busyLabel: 'Checking…',
    fields: [code],
    own: code.words,
    submit,
    beside: [el('button', { type: 'button', 'data-action': 'cancel', onclick: () => leave() }, 'Cancel')],
  })
  setTimeout(() => {
    if (heading.isConnected && confirming.querySelector('[aria-busy]') === null) leave(SETUP_OVER)
  }, enrollment.expires_in * 1000)

  return {
    name: 'setup',
    title,
    content: [
      el(
        'section',
        { class: 'card' },
        heading,
        el('p', {}, ...intro(given)),
        el(
          'ol',
          { class: 'steps' },
          el(
            'li',
            {},
            el('h2', {}, 'Add the account to your authenticator app'),
            el('p', {}, 'It appears in the app as ', el('strong', {}, `${issuer}: ${accountName}`), '.'),
            ...waysIntoTheApp(app, given),
          ),
          el('li', {}, el('h2', {}, 'Enter the code that the app shows'), confirming),
        ),
        el('p', { class: 'hint' }, `Finish by ${clockTime(expiresAtMs)}. Until then you can reload this page.`),
      ),
    ],
    focus: heading,
  }
}

function titleOf({ enrollment, isFurther }: Setup): string {
  if (!isFurther) return 'Set up two-factor authentication'
  return enrollment.replaces === null ? 'Add authenticator' : 'Replace authenticator'
}

function intro({ enrollment: { replaces }, isFurther, enrollmentToken }: Setup): (string | HTMLElement)[] {
  if (replaces !== null) {
    const consequence = ' stops working when you confirm the new one. Until then it keeps working.'
    return [el('strong', { 'data-replaces': true }, nameOf(replaces) ?? ''), consequence]
  }
  if (isFurther) return ['Your other authenticators keep working.']
  const apps = 'You need an authenticator app on your phone, such as Aegis, Google Authenticator, 2FAS, or 1Password.'
  return [enrollmentToken === null ? apps : `Your account requires two-factor authentication. ${apps}`]
}

/** A phone cannot scan its own screen: there the app opens by a link. A computer mostly has no app. */
function waysIntoTheApp(app: App, given: Setup): HTMLElement[] {
  const { enrollment } = given
  const isPhone = matchMedia('(pointer: coarse)').matches
  const picture = svgImage(enrollment.svg, `QR code for ${enrollment.issuer}: ${enrollment.account_name}`)
  const qr = el('div', { class: 'qr', 'data-qr': true }, picture)
  const key = el('code', { class: 'secret', 'data-secret': true }, inFours(enrollment.secret))
  const copy = copyButton({ action: 'copy-secret', label: 'Copy key', text: enrollment.secret, shown: key })
  const errors = errorRegion()
  const startOver = linkButton('start-over', 'Start over with a new key', async () => {
    const { name, enrollmentToken } = given
    try {
      const call = () => app.api.create({ name, enrollmentToken, startsOver: true })
      const enrollment = await withStepUp(app, 'Enter a code to start over.', call)
      if (enrollment !== null) app.toSetup({ ...given, enrollment })
    } catch (error) {
      errors.explain(error)
    }
  })
  const nothingHappened = el('p', { class: 'hint', role: 'status' })
  const open = el(
    'a',
    {
      href: enrollment.uri,
      class: isPhone ? 'button primary wide' : '',
      'data-action': 'open-app',
      onclick: () => {
        nothingHappened.textContent = 'Nothing happened? Copy the key, and enter it in your authenticator app.'
      },
    },
    'Open in authenticator app',
  )
  if (isPhone) {
    const summary = el('summary', { 'data-action': 'show-qr' }, 'Show QR code and key')
    const hint = el('p', {}, 'Scan the QR code with another device, or enter the key by hand.')
    const more = el('details', {}, summary, el('div', { class: 'by-hand' }, hint, qr, key, errors.element, startOver))
    // Where the key cannot be copied, it is selected: it has to be seen then.
    copy.addEventListener('click', () => {
      more.open ||= !window.isSecureContext
    })
    return [el('div', { class: 'by-hand' }, open, copy, nothingHappened), more]
  }
  return [
    el('p', {}, 'Scan this QR code with your authenticator app.'),
    qr,
    el(
      'details',
      {},
      el('summary', { 'data-action': 'show-key' }, 'Can’t scan it?'),
      el(
        'div',
        { class: 'by-hand' },
        el('p', {}, 'Enter this key in your authenticator app instead:'),
        key,
        copy,
        el('p', {}, 'Is the app on this device? ', open),
        nothingHappened,
        errors.element,
        startOver,
      ),
    ),
  ]
}

function isAdded(replaced: string | null): string {
  const codesStay = 'Your backup codes stay the same.'
  if (replaced === null) return `The new authenticator is set up. ${codesStay}`
  return `The new authenticator is set up. “${replaced}” no longer works. ${codesStay}`
}

function nameOf(authenticator: { name: string | null } | null): string | null {
  return authenticator === null ? null : (authenticator.name ?? 'Authenticator app')
}

function inFours(secret: string): string {
  return secret.replace(/(.{4})(?=.)/g, '$1 ')
}

/** The setup has expired: the first is how that looks beside a phone that works, the last before the login. */
const GONE = new Set(['totp_already_enabled', 'totp_not_set_up', 'unauthenticated'])

function isGone(error: unknown): boolean {
  return error instanceof Refusal && GONE.has(error.code)
}
