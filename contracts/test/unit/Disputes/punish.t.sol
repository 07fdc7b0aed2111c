// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract DisputesPunish is Network {
    function test_punish__by_contradictions__slashes_jails_and_rewards() public {
        _joinProvider();
        address reporter = makeAddr("reporter");
        vm.prank(address(contradictions));
        assertEq(disputes.punish(owner, reporter), STAKE / 2);
        assertEq(token.balanceOf(reporter), 4_000 ether);
        assertFalse(providers.isServing(owner));
        _assertLedgers();
    }

    function test_punish__by_another__reverts() public {
        vm.expectRevert(abi.encodeWithSelector(IDisputes.NotAllowed.selector, address(this)));
        disputes.punish(owner, address(this));
    }
}
