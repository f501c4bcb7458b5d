# frozen_string_literal: true

require_relative "login"

module Pgiam
  # `rails dbconsole`: Rails gives psql a password with -p only, and psql would ask for one.
  module DBConsole # :nodoc:
    def start
      config = db_config.configuration_hash
      if config[:password].is_a?(Password)
        @options = @options.to_h.transform_keys(&:to_sym).merge(include_password: true)
        ENV["PGSSLMODE"] = config[:sslmode]
      end
      super
    end

    ::Rails::DBConsole.prepend(self)
  end
  private_constant :DBConsole
end
