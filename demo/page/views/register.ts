import type { App, View } from '../app.ts'
import { el, linkButton } from '../dom.ts'
import { emailField, field, form } from '../form.ts'

export function registerView(app: App): View {
  const username = field({ name: 'username', label: 'User name', attributes: { autocomplete: 'username' } })
  const email = emailField()
  const password = field({
    name: 'password',
    label: 'Password',
    type: 'password',
    hint: 'At least 8 characters.',
    attributes: { autocomplete: 'new-password' },
  })

  async function submit(): Promise<void> {
    const account = {
      username: username.input.value.trim(),
      email: email.input.value.trim(),
      password: password.input.value,
    }
    await app.api.register(account)
    try {
      await app.api.logIn(account.username, account.password)
    } catch {
      return app.toLogin({ notice: 'Your account is there. Log in to use it.', username: account.username })
    }
    app.toAccount({
      notice: `Welcome, ${account.username}. Your account is there; next, protect it with a second factor.`,
    })
  }

  return {
    name: 'register',
    title: 'Register',
    content: [
      el(
        'section',
        { class: 'card narrow' },
        el('h1', { tabindex: '-1' }, 'Register'),
        form({
          action: 'register',
          label: 'Register',
          busyLabel: 'Registering…',
          fields: [username, email, password],
          submit,
        }),
        el(
          'p',
          { class: 'elsewhere' },
          'You have an account? ',
          linkButton('go-login', 'Log in', () => app.toLogin()),
        ),
      ),
    ],
    focus: username.input,
  }
}
