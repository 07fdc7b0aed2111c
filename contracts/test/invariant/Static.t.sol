// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {StaticHandler} from "./handlers/Handler.t.sol";

/// @notice Whatever the parties do in whatever order, without a slash and without time: the books are exact.
contract StaticInvariant is StaticHandler {
    /// @dev Property 2, exact: nothing has been released yet.
    function invariant_escrow__holds_payers_bonds_and_earned() public view {
        uint256 payers = uint256(escrow.depositOf(payer).balance) + escrow.limitOf(payer, gateway).reserved;
        assertEq(payers + escrow.bondOf(gateway).balance + _earned(), token.balanceOf(address(escrow)));
        assertEq(escrow.ledger(), token.balanceOf(address(escrow)));
    }

    /// @dev Nothing is lost to rounding while nothing was slashed: a delegator gets back what it put in, to the wei of each step.
    function invariant_supply__is_whole() public view {
        assertEq(token.totalSupply(), token.INITIAL_SUPPLY());
    }
}
