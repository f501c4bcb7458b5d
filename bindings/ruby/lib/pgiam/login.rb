# frozen_string_literal: true

require_relative "client"

module Pgiam
  # A password that is a new token whenever it is asked for: PG.connect calls `to_s` at each connect.
  #
  #   Sequel.connect(adapter: "postgres", host: host, user: user, password: Pgiam::Password.new(host: host, user: user))
  class Password
    # Without host, port or user: PGHOST, PGPORT and PGUSER.
    def initialize(host: nil, port: nil, user: nil, client: nil)
      @host = host
      @port = port
      @user = user
      @client = client
    end

    def to_s
      (@client || Pgiam).generate_token(
        host: required("host", @host), port: Integer(given("port", @port) || 5432), user: required("user", @user)
      )
    end

    def inspect
      "#<Pgiam::Password for #{@user} at #{@host}>"
    end

    private

    def given(name, value)
      [value, ENV["PG#{name.upcase}"]].map(&:to_s).find { |text| !text.empty? }
    end

    def required(name, value)
      found = given(name, value)
      return found if found

      message = "the connection has no #{name}, and a token is made for one: pass #{name} or set PG#{name.upcase}"
      raise InvalidArgument.new(message, 1)
    end
  end

  # Which connections get a token, and with which sslmode. A connection that has a password of its own keeps it, in its
  # parameters or in PGPASSWORD; the password "rds-iam" is replaced by a token.
  module Login # :nodoc:
    IN_CLEAR = %w[disable allow prefer].freeze

    module_function

    def token?(password)
      return true if password.is_a?(Password) || password.is_a?(Token)

      password = [password, ENV["PGPASSWORD"]].map(&:to_s).find { |text| !text.empty? }
      password.nil? || password == "rds-iam"
    end

    # Parameters of PG.connect, with a password that makes tokens.
    def complete(parameters, client)
      return parameters unless token?(parameters[:password])

      host = parameters[:host].to_s
      if host.include?(",")
        message = "#{host}: several hosts need a token each, and PG.connect takes one password; pass one host, or start " \
                  "the program by pgiam exec --preload"
        raise InvalidArgument.new(message, 1)
      end
      password = Password.new(host: parameters[:host], port: parameters[:port], user: parameters[:user], client: client)
      parameters.merge(password: password, sslmode: sslmode(parameters[:sslmode]))
    end

    # The sslmode to connect with: verify-full where none is given.
    def sslmode(given)
      mode = [given, ENV["PGSSLMODE"], "verify-full"].map(&:to_s).find { |text| !text.empty? }
      return mode unless IN_CLEAR.include?(mode)

      message = "sslmode=#{mode} could send the token in clear, and a token is a password; use sslmode=verify-full with " \
                "sslrootcert=FILE, or at least sslmode=require"
      raise InvalidArgument.new(message, 1)
    end

    # Whether `pgiam: true`, "true" from a URL or a Hash of settings.
    def enabled?(setting)
      setting.is_a?(Hash) || setting.to_s == "true"
    end
  end
  private_constant :Login

  # Like PG.connect, with a new token, unless the connection has a password. `client` is a Pgiam::Client.
  #
  #   Pgiam.connect(host: "…", user: "app_user", dbname: "app")
  #   Pgiam.connect("postgresql://app_user@HOST/app")
  def self.connect(conninfo = nil, client: nil, **parameters, &block)
    require "pg"
    options = conninfo ? PG::Connection.conninfo_parse(conninfo) : []
    given = options.reject { |option| option[:val].nil? }.to_h { |option| [option[:keyword].to_sym, option[:val]] }
    PG.connect(Login.complete(given.merge(parameters), client), &block)
  end

  # Parameters of a connection of ActiveRecord or Sequel that has `pgiam: true`, whose user is at `user`.
  def self.complete(parameters, user) # :nodoc:
    return parameters unless Login.enabled?(parameters[:pgiam])

    client = client_of(parameters[:pgiam])
    libpq = Login.complete(parameters.merge(user: parameters[user]), client)
    return parameters unless libpq[:password].is_a?(Password)

    parameters.merge(password: libpq[:password], sslmode: libpq[:sslmode])
  end
end
