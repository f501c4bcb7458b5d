# frozen_string_literal: true

module Pgiam
  # A call failed. The message is one line that says what went wrong and what to do; it never contains a secret.
  # `status` is the number of pgiam.h.
  class Error < StandardError
    attr_reader :status

    def initialize(message = nil, status = 0)
      super(message)
      @status = status
    end
  end

  # No token can be made for this host, port, region or user. The same arguments will fail again.
  class InvalidArgument < Error; end
  # A setting, an environment variable or a profile file is wrong; the message names it.
  class InvalidConfiguration < Error; end
  # No source of AWS credentials is configured; the message lists the sources.
  class NoCredentials < Error; end
  # The endpoint's name contains no region and none is configured.
  class NoRegion < Error; end
  # A configured source of credentials refused or failed; the message names it.
  class ProviderError < Error; end
  # The time limit passed first. Trying again may help.
  class Timeout < Error; end
  # The only credentials found have expired.
  class CredentialsExpired < Error; end
  # A bug in pgiam, or the operating system failed.
  class InternalError < Error; end

  # The exceptions by the statuses of pgiam.h. 8 (WOULD_BLOCK) is no error here; an unknown status becomes an Error.
  ERRORS = {
    1 => InvalidArgument, 2 => InvalidConfiguration, 3 => NoCredentials, 4 => NoRegion, 5 => ProviderError,
    6 => Timeout, 7 => CredentialsExpired, 9 => InternalError
  }.freeze
  private_constant :ERRORS

  def self.error_of(status, message) # :nodoc:
    ERRORS.fetch(status, Error).new(message, status)
  end
end
