import type { App, View } from '../app.ts'
import { el, linkButton } from '../dom.ts'
import { emailField, form } from '../form.ts'

/** For somebody whose phone is gone: asks for a link by mail. What is said afterwards never depends on the address. */
export function recoveryView(app: App): View {
  const heading = el('h1', { tabindex: '-1' }, 'Lost your phone?')
  const email = emailField()
  const card = el('section', { class: 'card narrow' })

  const request = form({
    action: 'request-recovery',
    label: 'Send the link',
    busyLabel: 'Sending…',
    fields: [email],
    submit: async () => {
      const address = email.input.value.trim()
      await app.api.requestRecovery(address)
      heading.textContent = 'Look into your mail'
      card.replaceChildren(heading, ...sent(address), elsewhere(app))
      heading.focus()
    },
  })

  card.append(
    heading,
    el(
      'p',
      {},
      'A backup code logs you in as well. If you have none left, a link by mail switches the second factor off.',
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
      'If there is an account with ',
      el('strong', {}, address),
      ' and two-factor authentication is on, a mail with a link is on its way.',
    ),
    el('p', {}, 'Open the link and enter your password. If nothing comes within minutes, look into the spam folder.'),
  ]
}

function elsewhere(app: App): HTMLElement {
  return el(
    'p',
    { class: 'elsewhere' },
    linkButton('go-login', 'Back to the log-in', () => app.toLogin()),
  )
}
