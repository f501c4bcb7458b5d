# frozen_string_literal: true

require "fiddle"
require_relative "errors"

module Pgiam
  # The C functions of libpgiam, through Fiddle, which lets other Ruby threads run for the length of each call. The
  # comments in pgiam.h hold: any thread, at any time, also in a child after fork.
  module Native # :nodoc:
    packaged = File.expand_path("../../native/lib/libpgiam.so", __dir__)
    begin
      # A distribution that installs the library by itself leaves it out of this gem.
      LIBRARY = Fiddle.dlopen(File.exist?(packaged) ? packaged : "libpgiam.so.0")
    rescue Fiddle::DLError => error
      raise LoadError, "pgiam: cannot load its library (the gem is for Linux with glibc 2.17 or later): #{error.message}"
    end

    POINTER = Fiddle::TYPE_VOIDP
    INT = Fiddle::TYPE_INT

    def self.function(name, arguments, result)
      Fiddle::Function.new(LIBRARY[name], arguments, result)
    end
    private_class_method :function

    token = [POINTER, POINTER, INT, POINTER, POINTER, POINTER, POINTER, POINTER]
    CLIENT_NEW = function("pgiam_client_new", [POINTER] * 4, INT)
    GENERATE_TOKEN = function("pgiam_client_generate_token", token, INT)
    TRY_GENERATE_TOKEN = function("pgiam_client_try_generate_token", token, INT)
    CLIENT_REFRESH = function("pgiam_client_refresh", [POINTER, POINTER], INT)
    CLIENT_FREE = function("pgiam_client_free", [POINTER], Fiddle::TYPE_VOID)
    STRING_FREE = function("pgiam_string_free", [POINTER], Fiddle::TYPE_VOID)
    ERROR_MESSAGE = function("pgiam_error_message", [POINTER], POINTER)
    ERROR_FREE = function("pgiam_error_free", [POINTER], Fiddle::TYPE_VOID)
    VERSION = function("pgiam_version", [], POINTER)

    WOULD_BLOCK = 8

    module_function

    def version
      VERSION.call.to_s
    end

    # A pgiam_client, freed when nothing refers to it any more; a call in progress does.
    def client(settings)
      texts = settings.map { |name, value| [text(name, name.to_s), value.nil? ? nil : text(name, value)] }
      client = place
      check { |error| CLIENT_NEW.call(array(texts.map(&:first)), array(texts.map(&:last)), client, error) }
      Fiddle::Pointer.new(client.ptr.to_i, 0, CLIENT_FREE)
    end

    # The token and the Unix time in seconds at which it expires; nil where `function` would have to wait.
    def token(function, client, host, port, user, region)
      raise TypeError, "port must be an Integer, not #{port.class}" unless port.is_a?(Integer)
      raise InvalidArgument.new("port #{port} is not between 1 and 65535", 1) unless port.between?(-65_536, 65_536)

      token, expires_at = place, place
      texts = [text(:host, host), region.nil? ? nil : text(:region, region), text(:user, user)]
      status = check do |error|
        function.call(client, texts[0], port, texts[1], texts[2], token, expires_at, error)
      end
      return if status == WOULD_BLOCK

      begin
        [token.ptr.to_s.force_encoding(Encoding::UTF_8), expires_at[0, 8].unpack1("q")]
      ensure
        STRING_FREE.call(token.ptr)
      end
    end

    def refresh(client)
      check { |error| CLIENT_REFRESH.call(client, error) }
    end

    # The status, 0 or WOULD_BLOCK; all others are raised.
    def check
      error = place
      status = yield error
      return status if status.zero?

      begin
        message = ERROR_MESSAGE.call(error.ptr).to_s.force_encoding(Encoding::UTF_8)
      ensure
        ERROR_FREE.call(error.ptr)
      end
      raise Pgiam.error_of(status, message) unless status == WOULD_BLOCK

      status
    end

    # Room for a pointer or a 64-bit number.
    def place
      Fiddle::Pointer.malloc(8, Fiddle::RUBY_FREE)
    end

    # C text in memory that the garbage collector does not move. C would cut it at the first NUL character.
    def text(name, value)
      raise TypeError, "#{name} must be a String, not #{value.class}" unless value.is_a?(String)
      raise InvalidArgument.new("#{name} contains a NUL character", 1) if value.b.include?("\0")

      bytes = value.encode(Encoding::UTF_8).b
      memory = Fiddle::Pointer.malloc(bytes.bytesize + 1, Fiddle::RUBY_FREE)
      memory[0, bytes.bytesize + 1] = "#{bytes}\0"
      memory
    rescue EncodingError
      raise InvalidArgument.new("#{name} is not UTF-8", 1)
    end

    # An array of C texts that ends with NULL.
    def array(texts)
      addresses = (texts + [nil]).map(&:to_i).pack("J*")
      memory = Fiddle::Pointer.malloc(addresses.bytesize, Fiddle::RUBY_FREE)
      memory[0, addresses.bytesize] = addresses
      memory
    end
  end
  private_constant :Native
end
