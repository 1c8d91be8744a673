import type { RecoveryLink } from '../api.ts'
import type { App, View } from '../app.ts'
import { el, linkButton } from '../dom.ts'
import { actionButton, type ErrorRegion, errorRegion, field, form } from '../form.ts'

/** What the link of a mail opens. The token lives in this view only: the address bar has lost it by now. */
export function recoveryLinkView(app: App, link: RecoveryLink): View {
  return link.onlyCancels ? cancelView(app, link) : confirmView(app, link)
}

function confirmView(app: App, link: RecoveryLink): View {
  const title = 'Switch off two-factor authentication'
  const password = field({
    name: 'password',
    label: 'Password of your account',
    type: 'password',
    attributes: { autocomplete: 'current-password' },
  })
  const errors = errorRegion()
  const confirm = form({
    action: 'confirm-recovery',
    label: 'Switch off two-factor authentication',
    busyLabel: 'Switching off…',
    fields: [password],
    own: () => ({
      invalid_credentials: 'That password is wrong. Check it (is caps lock on?), then try again.',
      too_many_attempts: (wait) => `Too many wrong passwords. You can try again ${wait}.`,
      second_factor_locked: 'After very many wrong passwords, no more are accepted here. Ask support.',
    }),
    submit: async () => {
      await app.api.confirmRecovery(link, password.input.value)
      app.toLogin({
        notice: 'Two-factor authentication is off. Log in with your password, and set it up on your new phone.',
      })
    },
  })
  const card = el(
    'section',
    { class: 'card narrow' },
    el('h1', { tabindex: '-1' }, title),
    el('p', {}, 'With this link and your password you log in without a code. Other log-ins and trusted devices end.'),
    confirm,
    el(
      'p',
      { class: 'elsewhere' },
      'The link does not work? ',
      linkButton('go-recovery', 'Ask for a new one', app.toRecovery),
    ),
    el(
      'div',
      { class: 'elsewhere' },
      el('p', {}, 'Somebody else asked for this link? Stop it: then no link works any more, and all log-ins end.'),
      errors.element,
      el('div', { class: 'actions' }, cancelButton(app, link, errors, 'This wasn’t me: cancel', '')),
    ),
  )
  return { name: 'recovery-link', title, content: [card], focus: password.input }
}

function cancelView(app: App, link: RecoveryLink): View {
  const title = 'This wasn’t you?'
  const heading = el('h1', { tabindex: '-1' }, title)
  const errors = errorRegion()
  const card = el(
    'section',
    { class: 'card narrow' },
    heading,
    el(
      'p',
      {},
      'Somebody asked for a link that switches off two-factor authentication for your account. If it was not you, stop it.',
    ),
    errors.element,
    el('div', { class: 'actions' }, cancelButton(app, link, errors, 'Cancel the recovery', 'primary')),
    el('p', { class: 'elsewhere' }, 'If it was you, close this page: the mail to your other address has the link.'),
  )
  return { name: 'recovery-link', title, content: [card], focus: heading }
}

function cancelButton(app: App, link: RecoveryLink, errors: ErrorRegion, label: string, look: string) {
  return actionButton({
    action: 'cancel-recovery',
    label,
    busyLabel: 'Cancelling…',
    class: look,
    errors,
    own: {
      recovery_link_invalid: 'This link has expired, was used or was stopped before. There is nothing left to stop.',
    },
    work: async () => {
      await app.api.cancelRecovery(link)
      app.toLogin({
        notice:
          'The recovery is cancelled: no link works any more, and two-factor authentication stays on. Log in again, and change your password if you asked for no link.',
      })
    },
  })
}
