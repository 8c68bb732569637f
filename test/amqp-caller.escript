#!/usr/bin/env escript
%% Calls actions as the Elixir library did: with RabbitMQ's own Erlang client, in Erlang terms.
%% Usage: amqp-caller.escript PORT QUEUE TOKEN UNIT NODE      (with ERL_LIBS where amqp_client is)
%% Prints a line for each action, `ACTION STATUS RESULT`, and ends with 0 when every answer was well-formed.

main([Port, Queue, Token, Unit, Node]) ->
    {ok, Connection} = open(list_to_integer(Port)),
    {ok, Channel} = amqp_connection:open_channel(Connection),
    #{queue := Replies} = declare(Channel),
    subscribe(Channel, Replies),
    Calls = [
        {list_machines, nil},
        {list_units, nil},
        {list_unit_states, #{unit_name => list_to_binary(Unit)}},
        {unit_logs, #{unit_name => list_to_binary(Unit)}},
        {node_info, #{nodes => [list_to_binary(Node)]}},
        {restart_unit, #{unit_name => list_to_binary(Unit)}}
    ],
    [call(Channel, list_to_binary(Queue), Replies, list_to_binary(Token), Call) || Call <- Calls],
    amqp_connection:close(Connection).

call(Channel, Queue, Replies, Token, {Action, Parameters}) ->
    Cluster = case Action of node_info -> #{}; _ -> #{etcd_token => Token} end,
    Body = Cluster#{action => Action, action_parameters => Parameters},
    Request = #{queue_name => <<>>, id => nil, status => not_started, request_body => Body, response_body => nil},
    Id = atom_to_binary(Action, utf8),
    publish(Channel, Queue, term_to_binary(Request), Replies, Id),
    Answer = binary_to_term(receive_answer(Id)),
    %% The envelope in atoms, everything in it with binary keys.
    #{status := completed, response_body := Result, request_body := #{<<"action">> := Id}, id := nil} = Answer,
    io:format("~s completed ~s~n", [Id, summary(Action, Result)]).

summary(unit_logs, Text) when is_binary(Text) -> integer_to_list(byte_size(Text));
summary(restart_unit, Text) when is_binary(Text) -> hd(binary:split(Text, <<"\n">>));
summary(node_info, #{} = Nodes) ->
    [{Node, #{<<"docker_disk_space_percent">> := Percent}}] = maps:to_list(Nodes),
    io_lib:format("~s ~p", [Node, Percent]);
summary(_, [#{} | _] = Rows) -> integer_to_list(length(Rows)).

receive_answer(Id) ->
    receive
        {{'basic.deliver', _, _, _, _, _}, {amqp_msg, Properties, Payload}} ->
            Id = element(7, Properties),
            Payload;
        {'basic.consume_ok', _} -> receive_answer(Id)
    after 60000 -> error({no_answer, Id})
    end.

%% Records of amqp_client, written out: an escript has no include path.
open(Port) ->
    Defaults = {amqp_params_network, <<"guest">>, <<"guest">>, <<"/">>, "127.0.0.1", Port, 2047, 0, 10, 60000, none,
                [fun amqp_auth_mechanisms:plain/3, fun amqp_auth_mechanisms:amqplain/3], [], []},
    amqp_connection:start(Defaults).

declare(Channel) ->
    {'queue.declare_ok', Queue, _, _} =
        amqp_channel:call(Channel, {'queue.declare', 0, <<>>, false, false, true, true, false, []}),
    #{queue => Queue}.

subscribe(Channel, Queue) ->
    amqp_channel:subscribe(Channel, {'basic.consume', 0, Queue, <<>>, false, true, false, false, []}, self()).

publish(Channel, Queue, Payload, ReplyTo, Id) ->
    %% P_basic: no content_type, persistent, correlation_id and reply_to.
    Properties = {'P_basic', undefined, undefined, undefined, 2, undefined, Id, ReplyTo,
                  undefined, undefined, undefined, undefined, undefined, undefined, undefined},
    ok = amqp_channel:cast(Channel, {'basic.publish', 0, <<>>, Queue, false, false}, {amqp_msg, Properties, Payload}).
