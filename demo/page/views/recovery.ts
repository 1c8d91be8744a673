import type { App, View } from '../app.ts'
import { el, linkButton } from '../dom.ts'
import { emailField, form } from '../form.ts'

/** For somebody whose phone is gone: sends a link by mail. The answer never depends on the address. */
export function recoveryView(app: App): View {
  const heading = el('h1', { tabindex: '-1' }, 'Lost your phone?')
  const email = emailField()
  const card = el('section', { class: 'card narrow' })

  const request = form({
    action: 'request-recovery',
    label: 'Send link',
    busyLabel: 'Sending…',
    fields: [email],
    submit: async () => {
      const address = email.input.value.trim()
      await app.api.requestRecovery(address)
      heading.textContent = 'Check your email'
      card.replaceChildren(heading, ...sent(address), elsewhere(app))
      heading.focus()
    },
  })

  card.append(
    heading,
    el('p', {}, 'If you have a backup code, log in with it instead of a code from your app.'),
    el(
      'p',
      {},
      'Otherwise we can email you a link to turn off two-factor authentication. You also need your password for that.',
    ),
    request,
    elsewhere(app),
  )
  return { name: 'recovery', title: 'Lost your phone?', content: [card], focus: email.input }
}

function sent(address: string): HTMLElement[] {
  return [
    el(
      'p',
      { 'data-recovery-requested': true },
      'If an account with ',
      el('strong', {}, address),
      ' exists and has two-factor authentication on, a recovery email has been sent.',
    ),
    el('p', {}, 'Open the link in the email and enter your password. If no email arrives, check your spam folder.'),
  ]
}

function elsewhere(app: App): HTMLElement {
  return el(
    'p',
    { class: 'elsewhere' },
    linkButton('go-login', 'Back to login', () => app.toLogin()),
  )
}
