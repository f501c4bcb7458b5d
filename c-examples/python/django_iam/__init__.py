"""Django's PostgreSQL backend with IAM tokens: "ENGINE": "django_iam", and no PASSWORD."""
