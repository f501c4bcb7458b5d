# frozen_string_literal: true

require "sequel"
require_relative "login"

module Pgiam
  # `Sequel.connect(…, pgiam: true)`: the options of each new connection get a password that makes a token.
  module Sequel # :nodoc:
    module Database
      private

      def server_opts(server)
        Pgiam.complete(super, :user)
      end
    end

    ::Sequel::Database.prepend(Database)
  end
  private_constant :Sequel
end
