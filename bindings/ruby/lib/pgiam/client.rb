# frozen_string_literal: true

require_relative "native"

module Pgiam
  # A password for PostgreSQL: a frozen String, and the Time at which the server stops accepting it for new logins.
  # `inspect` hides the text, so that a token does not end up in a log by accident.
  class Token < String
    attr_reader :expires_at

    def initialize(text, expires_at)
      super(text)
      @expires_at = expires_at
      freeze
    end

    def inspect
      "#<Pgiam::Token expires_at=#{expires_at.utc}>"
    end
  end

  # Settings and cached AWS credentials. Threads may share one; so may a child after fork.
  #
  # profile::           a profile of the AWS config and credentials files; keys in the environment are then ignored
  # region::            the region for endpoint names that contain none
  # service::           "auto" (default), "rds" or "dsql"
  # timeout::           seconds that one call may wait, 0.001 to 3600 (default 10)
  # role_arn::          a role to assume with the credentials found
  # external_id::       the external id that the role's trust policy asks for
  # role_session_name:: the name of that session in AWS's logs
  #
  # Reads the environment and the AWS profile files when it is made and at `refresh`. Fetches nothing yet.
  class Client
    def initialize(profile: nil, region: nil, service: nil, timeout: nil, role_arn: nil, external_id: nil,
                   role_session_name: nil)
      @handle = Native.client(
        profile: profile, region: region, service: service, timeout_ms: timeout && (timeout * 1000).round.to_s,
        role_arn: role_arn, external_id: external_id, role_session_name: role_session_name
      )
    end

    # A token for one login. Waits only while no credentials are cached, at most `timeout` seconds.
    def generate_token(host:, user:, port: 5432, region: nil)
      token(Native::GENERATE_TOKEN, host, port, user, region)
    end

    # Like generate_token, but never waits: nil means that a fetch of credentials has been started. Call again after 20
    # milliseconds or more. A fetch that failed is raised once, by the next call.
    def try_generate_token(host:, user:, port: 5432, region: nil)
      token(Native::TRY_GENERATE_TOKEN, host, port, user, region)
    end

    # Reads the environment and the profile files again and fetches credentials now. Waits at most `timeout` seconds. If
    # it fails, the cached credentials stay in use.
    def refresh
      Native.refresh(handle)
      nil
    end

    # Ends the client. Calls that are still running in other threads finish; then its credentials are wiped, when the
    # garbage collector takes the client.
    def close
      @handle = nil
    end

    def inspect
      "#<Pgiam::Client#{" closed" unless @handle}>"
    end

    private

    def handle
      @handle || raise(Error, "the pgiam client is closed")
    end

    def token(function, host, port, user, region)
      text, expires_at = Native.token(function, handle, host, port, user, region)
      text && Token.new(text, Time.at(expires_at))
    end
  end

  class << self
    # A token for one login: the password for `user` at `host` and `port`, valid for at most 15 minutes.
    #
    # host::   the endpoint's own name, as the RDS console shows it
    # user::   the database user, a member of rds_iam
    # region:: nil: taken from the endpoint's name, else AWS_REGION, AWS_DEFAULT_REGION, the profile or the EC2 metadata
    #
    # The first call may wait up to 10 seconds for AWS credentials; later ones take microseconds.
    def generate_token(host:, user:, port: 5432, region: nil)
      with_default_client { |client| client.generate_token(host: host, port: port, user: user, region: region) }
    end

    # Like generate_token, but never waits: see Client#try_generate_token.
    def try_generate_token(host:, user:, port: 5432, region: nil)
      with_default_client { |client| client.try_generate_token(host: host, port: port, user: user, region: region) }
    end

    # Reads the environment and the profile files again: see Client#refresh.
    def refresh
      default_client.refresh
    end

    # The client of the module's methods, made at the first use.
    def default_client
      @default_client ||= Client.new
    end

    # The client for `pgiam: true` or `pgiam: {profile: …}`, one for all connections with the same settings.
    def client_of(settings) # :nodoc:
      return unless settings.is_a?(Hash)

      # Rails has hashes whose keys become strings again.
      settings = settings.to_a.to_h { |name, value| [name.to_sym, value] }
      @clients ||= {}
      @clients[settings] ||= Client.new(**settings)
    end

    private

    # After an error in the settings the next call reads them again.
    def with_default_client
      yield default_client
    rescue InvalidConfiguration
      @default_client = nil
      raise
    end
  end
end
