# frozen_string_literal: true

require "active_record"
require_relative "login"

module Pgiam
  # `pgiam: true` in database.yml: the password of that configuration makes a new token at each connect, and for the
  # programs that dump and load the structure.
  module ActiveRecord # :nodoc:
    # All users of a configuration read it here.
    module Configuration
      def configuration_hash
        Pgiam.complete(super, :username)
      end
    end

    # Rails before 7.0 does not pass sslmode to pg_dump and psql.
    module Tasks
      def run_cmd(*arguments)
        ENV["PGSSLMODE"] = configuration_hash[:sslmode] if configuration_hash[:password].is_a?(Password)
        super
      end
    end

    ::ActiveRecord::Base.name # loads DatabaseConfigurations
    ::ActiveRecord::DatabaseConfigurations::HashConfig.prepend(Configuration)
    ::ActiveRecord::Tasks::PostgreSQLDatabaseTasks.prepend(Tasks)
  end
  private_constant :ActiveRecord
end
